//! Files in editions, as files of proto2 or proto3 that mean the same on the wire.
//!
//! prost-types does not know editions and features. So the same bytes are decoded a
//! second time, by messages that have nothing else.

use prost::Message;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto,
    field_descriptor_proto::{Label, Type},
};

/// What a file says about itself by `edition` and `features`.
#[derive(Clone, PartialEq, Message)]
struct FileView {
    #[prost(message, repeated, tag = "4")]
    messages: Vec<MessageView>,
    #[prost(message, repeated, tag = "7")]
    extensions: Vec<FieldView>,
    #[prost(message, optional, tag = "8")]
    options: Option<FileOptions>,
    #[prost(int32, optional, tag = "14")]
    edition: Option<i32>,
}

#[derive(Clone, PartialEq, Message)]
struct MessageView {
    #[prost(message, repeated, tag = "2")]
    fields: Vec<FieldView>,
    #[prost(message, repeated, tag = "3")]
    nested: Vec<MessageView>,
    #[prost(message, repeated, tag = "6")]
    extensions: Vec<FieldView>,
    #[prost(message, optional, tag = "7")]
    options: Option<MessageOptions>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldView {
    #[prost(message, optional, tag = "8")]
    options: Option<FieldOptions>,
}

#[derive(Clone, PartialEq, Message)]
struct FileOptions {
    #[prost(message, optional, tag = "50")]
    features: Option<FeatureSet>,
}

#[derive(Clone, PartialEq, Message)]
struct MessageOptions {
    #[prost(message, optional, tag = "12")]
    features: Option<FeatureSet>,
}

#[derive(Clone, PartialEq, Message)]
struct FieldOptions {
    #[prost(message, optional, tag = "21")]
    features: Option<FeatureSet>,
}

/// Those features that change what is on the wire, or whether a field has presence.
#[derive(Clone, PartialEq, Message)]
struct FeatureSet {
    #[prost(int32, optional, tag = "1")]
    field_presence: Option<i32>,
    #[prost(int32, optional, tag = "3")]
    repeated_field_encoding: Option<i32>,
    #[prost(int32, optional, tag = "5")]
    message_encoding: Option<i32>,
}

const IMPLICIT: i32 = 2;
const LEGACY_REQUIRED: i32 = 3;
const PACKED: i32 = 1;
const DELIMITED: i32 = 2;

/// The features that hold at some place.
#[derive(Debug, Clone, Copy)]
struct Features {
    presence: i32,
    repeated: i32,
    encoding: i32,
}

impl Features {
    /// Of the editions 2023 and 2024.
    const DEFAULT: Self = Self { presence: 1, repeated: PACKED, encoding: 1 };

    fn with(self, set: Option<&FeatureSet>) -> Self {
        let Some(set) = set else { return self };
        let said = |value: Option<i32>, before| value.filter(|value| *value != 0).unwrap_or(before);
        Self {
            presence: said(set.field_presence, self.presence),
            repeated: said(set.repeated_field_encoding, self.repeated),
            encoding: said(set.message_encoding, self.encoding),
        }
    }
}

/// Turns `file`, which is in `bytes`, into one of proto2 or proto3.
///
/// A file in which some field has no presence becomes proto3, where every other field
/// is marked as `optional`. Any other file becomes proto2.
///
/// # Errors
///
/// What is wrong with the file.
pub(crate) fn lower(file: &mut FileDescriptorProto, bytes: &[u8]) -> Result<(), String> {
    let view = FileView::decode(bytes).map_err(|error| error.to_string())?;
    let syntax = match view.edition {
        Some(998) => "proto2",
        Some(999) => "proto3",
        Some(1000 | 1001) => {
            let features = Features::DEFAULT.with(view.options.as_ref().and_then(|o| o.features.as_ref()));
            let mut lowered = Lowered { some_implicit: false };
            for (message, view) in file.message_type.iter_mut().zip(&view.messages) {
                lowered.message(message, view, features);
            }
            for (field, view) in file.extension.iter_mut().zip(&view.extensions) {
                lowered.field(field, view, features, &[]);
            }
            if lowered.some_implicit { "proto3" } else { "proto2" }
        }
        Some(edition) => return Err(format!("edition {edition} is not supported, only 2023 and 2024 are")),
        None => return Err("it is in an edition, and does not say in which one".to_owned()),
    };
    file.syntax = Some(syntax.to_owned());
    Ok(())
}

struct Lowered {
    /// Whether some field has no presence.
    some_implicit: bool,
}

impl Lowered {
    fn message(&mut self, message: &mut DescriptorProto, view: &MessageView, outer: Features) {
        let features = outer.with(view.options.as_ref().and_then(|options| options.features.as_ref()));
        let is_map = |message: &&DescriptorProto| message.options.as_ref().is_some_and(|o| o.map_entry());
        let maps: Vec<_> =
            message.nested_type.iter().filter(is_map).map(|entry| entry.name().to_owned()).collect();
        for (field, view) in message.field.iter_mut().zip(&view.fields) {
            self.field(field, view, features, &maps);
        }
        for (field, view) in message.extension.iter_mut().zip(&view.extensions) {
            self.field(field, view, features, &[]);
        }
        for (nested, view) in message.nested_type.iter_mut().zip(&view.nested) {
            // What is in a map is always as it was before editions.
            if !is_map(&&*nested) {
                self.message(nested, view, features);
            }
        }
    }

    /// `maps` has the names of the map entries of the message that the field is in.
    fn field(
        &mut self,
        field: &mut FieldDescriptorProto,
        view: &FieldView,
        outer: Features,
        maps: &[String],
    ) {
        let features = outer.with(view.options.as_ref().and_then(|options| options.features.as_ref()));
        if field.label() == Label::Repeated {
            let packed = features.repeated == PACKED && is_packable(field.r#type());
            field.options.get_or_insert_default().packed = Some(packed);
        } else if field.oneof_index.is_none() && field.extendee.is_none() && field.r#type() != Type::Message {
            match features.presence {
                IMPLICIT => self.some_implicit = true,
                LEGACY_REQUIRED => {
                    field.set_label(Label::Required);
                    field.proto3_optional = Some(true);
                }
                _ => field.proto3_optional = Some(true),
            }
        } else if features.presence == LEGACY_REQUIRED && field.r#type() == Type::Message {
            field.set_label(Label::Required);
        }
        let is_map = |entry: &String| field.type_name().rsplit('.').next() == Some(entry.as_str());
        if features.encoding == DELIMITED && field.r#type() == Type::Message && !maps.iter().any(is_map) {
            field.set_type(Type::Group);
        }
    }
}

fn is_packable(kind: Type) -> bool {
    !matches!(kind, Type::String | Type::Bytes | Type::Message | Type::Group)
}
