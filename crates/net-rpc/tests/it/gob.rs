//! The bytes that Go makes, and ours, which Go reads: `interop/go/bytes` writes and checks the two files.

use std::collections::HashMap;
use std::fmt::{Debug, Write as _};

use net_rpc::gob::{Decoder, Encoder, Error, Limits, Type, frame};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

const FROM_GO: &str = include_str!("from_go.txt");

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Point {
    x: i64,
    y: i64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Fewer {
    y: i32,
}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Kinds {
    bool: bool,
    int: i64,
    small: i8,
    uint: u64,
    float: f64,
    single: f32,
    string: String,
    bytes: Vec<u8>,
    slice: Vec<i64>,
    array: [i64; 3],
    octets: [u8; 2],
    map: HashMap<String, i64>,
    inner: Point,
    inners: Vec<Point>,
    deep: Vec<Vec<String>>,
    pointer: Option<i64>,
    empty: (),
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn from_go(name: &str) -> Vec<u8> {
    let line = FROM_GO.lines().filter_map(|line| line.split_once(' ')).find(|line| line.0 == name);
    unhex(line.unwrap_or_else(|| panic!("from_go.txt has no {name}")).1)
}

/// The first value of a stream.
pub(crate) fn decode<T: DeserializeOwned>(mut bytes: &[u8], limits: Limits) -> Result<T, Error> {
    let mut decoder = Decoder::new(limits);
    while let Some(range) = frame(bytes, decoder.limits().message)? {
        let end = range.end;
        if let Some(value) = decoder.message(&bytes[range])? {
            return value.decode(&Type::of::<T>()?);
        }
        bytes = &bytes[end..];
    }
    Err(Error::Truncated)
}

pub(crate) fn encode<T: Serialize + DeserializeOwned>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    Encoder::default().encode(&Type::of::<T>().unwrap(), value, &mut out).unwrap();
    out
}

fn kinds() -> Kinds {
    Kinds {
        bool: true,
        int: -1 << 40,
        small: -128,
        uint: 1 << 63,
        float: 1e-300,
        single: 0.25,
        string: "s".into(),
        bytes: vec![9],
        slice: vec![0],
        array: [1, 0, 0],
        octets: [200, 0],
        map: HashMap::from([(String::new(), 0)]),
        inner: Point { x: 0, y: 5 },
        inners: vec![Point::default(), Point { x: 6, y: 7 }],
        deep: vec![vec!["a".into()], vec![]],
        pointer: Some(7),
        empty: (),
    }
}

#[test]
fn values_of_all_kinds_pass_in_both_directions() {
    let mut ours = String::new();
    fn both<T: Serialize + DeserializeOwned + PartialEq + Debug>(ours: &mut String, name: &str, value: T) {
        assert_eq!(decode::<T>(&from_go(name), Limits::default()).unwrap(), value, "{name} of Go");
        let bytes = encode(&value);
        assert_eq!(decode::<T>(&bytes, Limits::default()).unwrap(), value, "{name} of ours");
        writeln!(ours, "{name} {}", hex(&bytes)).unwrap();
    }
    let o = &mut ours;
    for (name, value) in [("zero", 0), ("one", 1), ("minus-one", -1), ("63", 63), ("64", 64)] {
        both(o, &format!("int-{name}"), value);
    }
    for (name, value) in [("minus-65", -65), ("minus-129", -129), ("max", i64::MAX), ("min", i64::MIN)] {
        both(o, &format!("int-{name}"), value);
    }
    for (name, value) in [("127", 127), ("128", 128), ("256", 256), ("max", u64::MAX)] {
        both(o, &format!("uint-{name}"), value);
    }
    for (name, value) in [("zero", 0.0), ("17", 17.0), ("minus-half", -0.5), ("max", f64::MAX)] {
        both(o, &format!("float-{name}"), value);
    }
    both(o, "float-infinite", f64::NEG_INFINITY);
    both(o, "bool-true", true);
    both(o, "bool-false", false);
    both(o, "string", "héllo".to_owned());
    both(o, "string-empty", String::new());
    both(o, "bytes", vec![0_u8, 1, 255]);
    both(o, "slice", vec![1_i64, 0, -300]);
    both(o, "slice-empty", Vec::<i64>::new());
    both(o, "array", [4_i64, 0, 6]);
    both(o, "map", HashMap::from([("one".to_owned(), 1_i64)]));
    both(o, "map-empty", HashMap::<String, i64>::new());
    both(o, "point", Point { x: 22, y: -33 });
    both(o, "point-zero", Point::default());
    both(o, "points", vec![Point { x: 1, y: 2 }, Point::default(), Point { x: 0, y: 3 }]);
    both(o, "fewer", Fewer { y: 9 });
    both(o, "empty", ());
    both(o, "kinds-zero", Kinds { pointer: None, ..Kinds::default() });
    both(o, "kinds", kinds());

    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/from_rust.txt");
    if std::env::var_os("UPDATE_GOB").is_some() {
        std::fs::write(file, &ours).unwrap();
    }
    assert_eq!(std::fs::read_to_string(file).unwrap(), ours, "UPDATE_GOB=1 writes the file anew");
}

#[test]
fn a_struct_with_more_fields_or_fewer_is_matched_by_name() {
    let of = |name| decode::<Point>(&from_go(name), Limits::default()).unwrap();
    assert_eq!(of("more"), Point { x: 22, y: -33 });
    assert_eq!(of("fewer"), Point { x: 0, y: 9 });
    assert_eq!(decode::<Fewer>(&from_go("point"), Limits::default()), Ok(Fewer { y: -33 }));
}

#[test]
fn another_type_is_refused_with_the_words_of_go() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Texts {
        x: String,
    }
    #[derive(Debug, Serialize, Deserialize)]
    struct Strange {
        z: i64,
    }
    fn text<T: DeserializeOwned + Debug>(name: &str) -> String {
        decode::<T>(&from_go(name), Limits::default()).unwrap_err().to_string()
    }
    assert_eq!(text::<Texts>("point"), "gob: wrong type (string) for received field Point.X");
    // Also where the field is zero, and so not on the wire.
    assert_eq!(text::<Texts>("point-zero"), "gob: wrong type (string) for received field Point.X");
    assert_eq!(
        text::<Strange>("point"),
        "gob: type mismatch: no fields matched compiling decoder for Strange"
    );
    assert_eq!(
        text::<Point>("string"),
        "gob: type mismatch in decoder: want struct type Point; got non-struct"
    );
    assert_eq!(text::<i64>("string"), "gob: decoding into local type *int, received remote type string");
    assert_eq!(
        text::<Vec<i64>>("points"),
        "gob: decoding into local type *[]int, received remote type []Point"
    );
    assert!(text::<i8>("int-64".replace("64", "max").as_str()).contains("invalid value"));
}

#[test]
fn what_gob_has_not_is_refused_before_anything_is_sent() {
    #[derive(Serialize, Deserialize)]
    struct Tree {
        children: Vec<Tree>,
        more: Vec<Tree>,
    }
    #[derive(Serialize, Deserialize)]
    enum Choice {
        One,
    }
    assert_eq!(Type::of::<Tree>(), Err(Error::Unsupported("a recursive type")));
    assert_eq!(Type::of::<Choice>(), Err(Error::Unsupported("an enum")));
    assert_eq!(Type::of::<(i64, String)>(), Err(Error::Unsupported("a tuple of several types")));
    assert_eq!(Type::of::<serde_json::Value>(), Err(Error::Unsupported("a type that takes anything")));
    let ty = Type::of::<Vec<Option<i64>>>().unwrap();
    let none = Encoder::default().encode(&ty, &vec![None::<i64>], &mut Vec::new());
    assert_eq!(none, Err(Error::Unsupported("None that is not a field")));
}

#[test]
fn a_type_is_described_once() {
    let (mut encoder, mut out) = (Encoder::default(), Vec::new());
    let ty = Type::of::<Point>().unwrap();
    encoder.encode(&ty, &Point { x: 22, y: 33 }, &mut out).unwrap();
    let first = out.len();
    encoder.encode(&ty, &Point { x: 22, y: 33 }, &mut out).unwrap();
    // The example of Go's documentation.
    assert_eq!(hex(&out[first..]), "07ff82012c014200");
    assert_eq!(
        hex(&out[..first]),
        "1fff8103010105506f696e7401ff8200010201015801040001015901040000\
         0007ff82012c014200"
    );
}
