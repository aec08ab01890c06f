//! Descriptors, of honest peers and of others.

use std::path::{Path, PathBuf};

use prost::Message as _;
use prost_reflect::Syntax;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, EnumValueDescriptorProto, FieldDescriptorProto, FieldOptions,
    FileDescriptorProto, FileDescriptorSet, MessageOptions, OneofDescriptorProto, ServiceDescriptorProto,
    UninterpretedOption,
    field_descriptor_proto::{Label, Type},
};
use schema::{Error, Schema};

use crate::support::{compiled, message, read, there_and_back};

fn field(name: &str, number: i32, kind: Type, type_name: Option<&str>) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.to_owned()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(kind.into()),
        type_name: type_name.map(str::to_owned),
        ..FieldDescriptorProto::default()
    }
}

fn file(messages: Vec<DescriptorProto>) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some("test.proto".to_owned()),
        package: Some("t".to_owned()),
        syntax: Some("proto3".to_owned()),
        message_type: messages,
        ..FileDescriptorProto::default()
    }
}

fn record(fields: Vec<FieldDescriptorProto>) -> DescriptorProto {
    DescriptorProto { name: Some("M".to_owned()), field: fields, ..DescriptorProto::default() }
}

fn decoded(files: &[FileDescriptorProto]) -> Result<Schema, Error> {
    Schema::decode(&FileDescriptorSet { file: files.to_vec() }.encode_to_vec())
}

/// A field or a message with features, as its options are on the wire.
fn features(field_of_options: u8, set: &[u8]) -> Vec<u8> {
    let mut options = Vec::new();
    prost::encoding::bytes::encode(field_of_options.into(), &set.to_vec(), &mut options);
    options
}

/// A file in an edition, in bytes, with its options, its messages and their fields.
fn in_edition(edition: u64, file_features: &[u8], fields: &[(FieldDescriptorProto, &[u8])]) -> Vec<u8> {
    let put = |number, bytes: Vec<u8>, out: &mut Vec<u8>| prost::encoding::bytes::encode(number, &bytes, out);
    let mut message = Vec::new();
    put(1, b"M".to_vec(), &mut message);
    for (field, set) in fields {
        let mut bytes = field.encode_to_vec();
        if !set.is_empty() {
            put(8, features(21, set), &mut bytes);
        }
        put(2, bytes, &mut message);
    }
    let mut entry =
        record(vec![field("key", 1, Type::String, None), field("value", 2, Type::Message, Some(".t.M"))]);
    entry.name = Some("MapEntry".to_owned());
    entry.options = Some(MessageOptions { map_entry: Some(true), ..MessageOptions::default() });
    put(3, entry.encode_to_vec(), &mut message);
    let mut file = Vec::new();
    put(1, b"test.proto".to_vec(), &mut file);
    put(2, b"t".to_vec(), &mut file);
    put(4, message, &mut file);
    put(8, features(50, file_features), &mut file);
    put(12, b"editions".to_vec(), &mut file);
    prost::encoding::uint64::encode(14, &edition, &mut file);
    let mut set = Vec::new();
    put(1, file, &mut set);
    set
}

#[test]
fn editions_mean_the_same_as_proto2_and_proto3_on_the_wire() {
    let repeated = |mut field: FieldDescriptorProto| {
        field.label = Some(Label::Repeated.into());
        field
    };
    let fields = [
        (field("explicit", 1, Type::Int32, None), &[][..]),
        (field("implicit", 2, Type::Int32, None), &[0x08, 2]),
        (repeated(field("packed", 4, Type::Int32, None)), &[]),
        (repeated(field("expanded", 5, Type::Int32, None)), &[0x18, 2]),
        (field("inner", 6, Type::Message, Some(".t.M")), &[]),
        (field("delimited", 7, Type::Message, Some(".t.M")), &[0x28, 2]),
        (repeated(field("map", 8, Type::Message, Some(".t.M.MapEntry"))), &[0x28, 2]),
    ];
    for edition in [1000, 1001] {
        let schema = Schema::decode(&in_edition(edition, &[], &fields)).unwrap();
        let m = message(&schema, "t.M");
        let encoded = |text| read(&m, text).unwrap().encode_to_vec();
        assert_eq!(encoded(r#"{"explicit": 0, "implicit": 0}"#), [0x08, 0]);
        assert_eq!(encoded(r#"{"packed": [1, 2]}"#), [0x22, 2, 1, 2]);
        assert_eq!(encoded(r#"{"expanded": [1, 2]}"#), [0x28, 1, 0x28, 2]);
        assert_eq!(encoded(r#"{"inner": {"implicit": 1}}"#), [0x32, 2, 0x10, 1]);
        assert_eq!(encoded(r#"{"delimited": {"implicit": 1}}"#), [0x3b, 0x10, 1, 0x3c]);
        assert_eq!(
            there_and_back(&m, r#"{"map": {"k": {"implicit": 1}}}"#),
            r#"{"map":{"k":{"implicit":1}}}"#
        );
        assert_eq!(m.parent_file().syntax(), Syntax::Proto3);
    }
    // What is said for the file, and required fields.
    let fields = [
        (field("required", 1, Type::Int32, None), &[0x08, 3][..]),
        (repeated(field("expanded", 2, Type::Int32, None)), &[]),
        (field("delimited", 3, Type::Message, Some(".t.M")), &[]),
    ];
    let schema = Schema::decode(&in_edition(1000, &[0x18, 2, 0x28, 2], &fields)).unwrap();
    let m = message(&schema, "t.M");
    assert_eq!(m.parent_file().syntax(), Syntax::Proto2);
    assert!(read(&m, "{}").unwrap_err().reason.contains("required"));
    let given = r#"{"required": 0, "expanded": [1], "delimited": {"required": 2}}"#;
    assert_eq!(read(&m, given).unwrap().encode_to_vec(), [0x08, 0, 0x10, 1, 0x1b, 0x08, 2, 0x1c]);
    let error = Schema::decode(&in_edition(1002, &[], &[])).unwrap_err().to_string();
    assert!(error.contains("edition 1002 is not supported"), "{error}");
}

#[test]
fn descriptors_that_would_panic_are_errors() {
    let entry = |fields| DescriptorProto {
        options: Some(MessageOptions { map_entry: Some(true), ..MessageOptions::default() }),
        ..record(fields)
    };
    let mut in_oneof = field("x", 1, Type::Int32, None);
    (in_oneof.label, in_oneof.oneof_index) = (Some(Label::Repeated.into()), Some(0));
    let oneof = OneofDescriptorProto { name: Some("o".to_owned()), options: None };
    let with_default = |kind, default: &str| FieldDescriptorProto {
        default_value: Some(default.to_owned()),
        ..field("x", 1, kind, None)
    };
    let mut cases = vec![
        file(vec![entry(vec![])]),
        file(vec![entry(vec![field("key", 1, Type::Double, None), field("value", 2, Type::Int32, None)])]),
        file(vec![entry(vec![field("key", 3, Type::Int32, None), field("value", 2, Type::Int32, None)])]),
        file(vec![DescriptorProto { oneof_decl: vec![oneof], ..record(vec![in_oneof]) }]),
        file(vec![record(vec![field("", 1, Type::Int32, None)])]),
        file(vec![record(vec![field("a.b", 1, Type::Int32, None)])]),
        file(vec![record(vec![field("x", 0, Type::Int32, None)])]),
        file(vec![record(vec![field("x", -1, Type::Int32, None)])]),
        file(vec![record(vec![field("x", 1, Type::Message, None)])]),
        file(vec![record(vec![field("x", 1, Type::Message, Some(".t.None"))])]),
        file(vec![record(vec![field("x", 1, Type::Int32, None), field("x", 1, Type::Int32, None)])]),
        file(vec![record(vec![with_default(Type::Int32, "x")])]),
        file(vec![record(vec![]), record(vec![])]),
        FileDescriptorProto { syntax: Some("proto9".to_owned()), ..file(vec![]) },
        FileDescriptorProto { syntax: Some("editions".to_owned()), ..file(vec![]) },
        FileDescriptorProto { package: Some("..".to_owned()), ..file(vec![]) },
        FileDescriptorProto {
            public_dependency: vec![9],
            dependency: vec!["x".to_owned()],
            ..file(vec![record(vec![field("x", 1, Type::Message, Some(".t.None"))])])
        },
    ];
    cases.push(FileDescriptorProto {
        enum_type: vec![EnumDescriptorProto { name: Some("E".to_owned()), ..EnumDescriptorProto::default() }],
        ..file(vec![])
    });
    cases.push(FileDescriptorProto {
        service: vec![ServiceDescriptorProto {
            name: Some("\u{1b}[2J".to_owned()),
            ..ServiceDescriptorProto::default()
        }],
        ..file(vec![])
    });
    for case in cases {
        let error = decoded(std::slice::from_ref(&case)).unwrap_err().to_string();
        assert!(!error.contains('\u{1b}'), "{error:?}");
    }
    // These are left out or set right.
    let mut wild = field("x", 1, Type::Bytes, None);
    wild.default_value = Some(r"\777\x".to_owned());
    wild.options = Some(FieldOptions {
        uninterpreted_option: vec![UninterpretedOption::default()],
        ..FieldOptions::default()
    });
    let own_options = FileDescriptorProto {
        name: Some("google/protobuf/descriptor.proto".to_owned()),
        package: Some("google.protobuf".to_owned()),
        ..file(vec![DescriptorProto { name: Some("FieldOptions".to_owned()), ..DescriptorProto::default() }])
    };
    let moved = FileDescriptorProto {
        name: Some("elsewhere.proto".to_owned()),
        package: Some("google.protobuf".to_owned()),
        ..file(vec![DescriptorProto { name: Some("Timestamp".to_owned()), ..DescriptorProto::default() }])
    };
    let user = FileDescriptorProto {
        dependency: vec!["elsewhere.proto".to_owned(), "missing.proto".to_owned()],
        ..file(vec![record(vec![wild, field("at", 2, Type::Message, Some(".google.protobuf.Timestamp"))])])
    };
    let schema = decoded(&[own_options, moved, user]).unwrap();
    let given = r#"{"x":"eA==","at":"2024-01-01T00:00:00Z"}"#;
    assert_eq!(there_and_back(&message(&schema, "t.M"), given), given);
}

#[test]
fn imports_in_a_circle_are_followed_once_and_too_many_not_at_all() {
    let name = |n: usize| format!("{n}.proto");
    let files = |count: usize| -> Vec<_> {
        let one = |n| FileDescriptorProto {
            name: Some(name(n)),
            package: Some(format!("p{n}")),
            dependency: vec![name((n + 1) % count), name((n + 2) % count), name(n)],
            public_dependency: vec![0, 1, 2],
            ..file(vec![record(vec![field(
                "x",
                1,
                Type::Message,
                Some(&format!(".p{}.M", (n + count / 2) % count)),
            )])])
        };
        (0..count).map(one).collect()
    };
    let schema = decoded(&files(60)).unwrap();
    assert_eq!(there_and_back(&message(&schema, "p0.M"), r#"{"x":{"x":{}}}"#), r#"{"x":{"x":{}}}"#);
    let error = decoded(&files(400)).unwrap_err().to_string();
    assert!(error.contains("400 files import each other too often"), "{error}");
}

#[test]
fn what_is_missing_is_named_when_it_is_needed() {
    let user = FileDescriptorProto {
        dependency: vec!["other.proto".to_owned()],
        ..file(vec![record(vec![field("x", 1, Type::Message, Some(".other.M"))])])
    };
    let error = decoded(&[user]).unwrap_err().to_string();
    assert!(
        error.contains("other.M") && error.contains("test.proto imports other.proto, which is missing"),
        "{error}"
    );
}

#[test]
fn two_fields_of_one_name_in_json_are_told_apart() {
    let two = FileDescriptorProto {
        syntax: None,
        ..file(vec![record(vec![
            field("foo_bar", 1, Type::Int32, None),
            field("fooBar", 2, Type::Int32, None),
        ])])
    };
    let m = message(&decoded(&[two]).unwrap(), "t.M");
    assert_eq!(there_and_back(&m, r#"{"foo_bar": 1, "fooBar": 2}"#), r#"{"foo_bar":1,"fooBar":2}"#);
}

#[test]
fn sources_are_compiled_and_what_is_wrong_with_them_has_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let whole =
        at("whole.proto", "syntax = \"proto3\"; import \"part.proto\"; service S { rpc M(P) returns (P); }");
    at("part.proto", "syntax = \"proto3\"; message P { int32 x = 1; } service Other {}");
    // Without a directory of imports, that of the source is one.
    let schema = Schema::compile(std::slice::from_ref(&whole), &[]).unwrap();
    assert_eq!(schema.services().map(|s| s.full_name().to_owned()).collect::<Vec<_>>(), ["S"]);
    let include = directory.path().to_owned();
    Schema::compile(&[PathBuf::from("whole.proto")], &[include]).unwrap();

    let wrong = at("wrong.proto", "syntax = \"proto3\";\nmessage A {\n  int32 x = ;\n}\n");
    let error = Schema::compile(&[wrong], &[]).unwrap_err().to_string();
    assert!(error.starts_with("wrong.proto:3:13: "), "{error}");
    let lost = at("lost.proto", "syntax = \"proto3\";\n\nimport \"nowhere.proto\";\n");
    let error = Schema::compile(&[lost], &[]).unwrap_err().to_string();
    assert!(error.starts_with("lost.proto:3:") && error.contains("nowhere.proto"), "{error}");
    let edition = at("edition.proto", "\nedition = \"2023\";\nmessage A {}\n");
    let error = Schema::compile(&[edition], &[]).unwrap_err();
    assert!(
        matches!(&error, Error::SourceInEdition(text) if text.contains("edition.proto:2: ") && text.contains("--descriptors"))
    );
    let missing = Schema::compile(&[directory.path().join("none.proto")], &[]).unwrap_err().to_string();
    assert!(missing.contains("none.proto"), "{missing}");
    assert!(matches!(Schema::read(&directory.path().join("none.binpb")), Err(Error::Unreadable { .. })));
    assert!(matches!(Schema::read(Path::new("Cargo.toml")), Err(Error::NotDescriptors(_))));
}

#[test]
fn random_bytes_and_mutilated_descriptors_do_not_panic() {
    let source = "syntax = \"proto2\"; package t; message M { map<string, M> m = 1; optional group G = 2 { repeated int32 \
                  x = 1; } oneof o { string a = 3; bytes b = 4; } extensions 10 to 20; enum E { A = 0; } optional E e = 5; } \
                  extend M { optional M x = 10; } service S { rpc R(M) returns (stream M); }";
    let schema = compiled(source);
    let file = schema.pool().files().find(|file| file.name() == "test.proto").unwrap();
    let whole = FileDescriptorSet { file: vec![file.file_descriptor_proto().clone()] }.encode_to_vec();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..2_000 {
        let mut bytes = whole.clone();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..3) {
                0 => bytes[at] = random.u8(..),
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, random.u8(..)),
            }
        }
        if let Ok(schema) = Schema::decode(&bytes) {
            for desc in schema.pool().all_messages() {
                let noise: Vec<u8> = (0..random.usize(..30)).map(|_| random.u8(..)).collect();
                if let Ok(message) = prost_reflect::DynamicMessage::decode(desc.clone(), noise.as_slice()) {
                    let text = schema::json::text(&message, schema::json::Names::Json);
                    let _ = read(&desc, &text).map(|message| message.encode_to_vec());
                }
                let _ = schema.text(desc.full_name());
                schema::template::template(&desc, false);
            }
        }
    }
}

#[test]
fn enum_values_that_are_no_names_are_refused() {
    let value = EnumValueDescriptorProto { name: Some("a b".to_owned()), number: Some(0), options: None };
    let one = EnumDescriptorProto {
        name: Some("E".to_owned()),
        value: vec![value],
        ..EnumDescriptorProto::default()
    };
    let error = decoded(&[FileDescriptorProto { enum_type: vec![one], ..file(vec![]) }]).unwrap_err();
    assert_eq!(error.to_string(), "the descriptors of test.proto are wrong: \"a b\" is no name");
}
