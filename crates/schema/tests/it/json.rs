//! JSON and messages, by protobuf's mapping.

use prost::Message as _;
use prost_reflect::DynamicMessage;
use schema::json::{self, Names};

use crate::support::{compiled, message, read, there_and_back};

const KINDS: &str = r#"
    syntax = "proto3";
    package t;
    import "google/protobuf/any.proto";
    import "google/protobuf/duration.proto";
    import "google/protobuf/empty.proto";
    import "google/protobuf/field_mask.proto";
    import "google/protobuf/struct.proto";
    import "google/protobuf/timestamp.proto";
    import "google/protobuf/wrappers.proto";
    enum Color { RED = 0; GREEN = 1; BLUE = 5; }
    message All {
        int32 i32 = 1; int64 i64 = 2; uint32 u32 = 3; uint64 u64 = 4; sint32 s32 = 5; sint64 s64 = 6;
        fixed32 f32 = 7; fixed64 f64 = 8; sfixed32 sf32 = 9; sfixed64 sf64 = 10;
        float a_float = 11; double a_double = 12; bool a_bool = 13; string a_string = 14; bytes some_bytes = 15;
        Color a_color = 16; All inner_all = 17; repeated int32 many_ints = 18; repeated All many = 19;
        map<string, int32> by_string = 20; map<int64, string> by_long = 21; map<bool, All> by_bool = 22;
        map<uint32, Color> by_uint = 23;
        oneof choice { string by_name = 30; int32 by_number = 31; google.protobuf.NullValue nothing = 32; }
        optional int32 maybe = 33;
        repeated Color colors = 34;
        google.protobuf.Any any = 40; google.protobuf.Duration duration = 41;
        google.protobuf.Timestamp timestamp = 42; google.protobuf.FieldMask mask = 43;
        google.protobuf.Struct object = 44; google.protobuf.Value value = 45;
        google.protobuf.ListValue list = 46; google.protobuf.Empty empty = 47;
        google.protobuf.DoubleValue double_value = 50; google.protobuf.FloatValue float_value = 51;
        google.protobuf.Int64Value int64_value = 52; google.protobuf.UInt64Value uint64_value = 53;
        google.protobuf.Int32Value int32_value = 54; google.protobuf.UInt32Value uint32_value = 55;
        google.protobuf.BoolValue bool_value = 56; google.protobuf.StringValue string_value = 57;
        google.protobuf.BytesValue bytes_value = 58;
        repeated google.protobuf.Value values = 60; map<string, google.protobuf.Value> value_by_name = 61;
        repeated google.protobuf.Timestamp times = 62;
    }
"#;

#[test]
fn what_the_mapping_takes_is_taken_and_comes_back_in_its_form() {
    let all = message(&compiled(KINDS), "t.All");
    for (given, back) in [
        // Whole numbers, in every form that a number has.
        (r#"{"i32": -2147483648}"#, r#"{"i32":-2147483648}"#),
        (r#"{"i32": 1.0}"#, r#"{"i32":1}"#),
        (r#"{"i32": 1e3}"#, r#"{"i32":1000}"#),
        (r#"{"i32": "1e3"}"#, r#"{"i32":1000}"#),
        (r#"{"i32": "-5"}"#, r#"{"i32":-5}"#),
        (r#"{"i64": 9223372036854775807}"#, r#"{"i64":"9223372036854775807"}"#),
        (r#"{"i64": "-9223372036854775808"}"#, r#"{"i64":"-9223372036854775808"}"#),
        (r#"{"u64": 18446744073709551615}"#, r#"{"u64":"18446744073709551615"}"#),
        (r#"{"u64": "18446744073709551615"}"#, r#"{"u64":"18446744073709551615"}"#),
        (r#"{"u32": 4294967295, "f32": "7"}"#, r#"{"u32":4294967295,"f32":7}"#),
        (
            r#"{"s32": -1, "s64": -1, "f64": 1, "sf32": -1, "sf64": "-1"}"#,
            r#"{"s32":-1,"s64":"-1","f64":"1","sf32":-1,"sf64":"-1"}"#,
        ),
        // Others.
        (r#"{"aFloat": 3.4028235e38}"#, r#"{"aFloat":3.4028235e+38}"#),
        (r#"{"aFloat": 0.1, "aDouble": 0.1}"#, r#"{"aFloat":0.1,"aDouble":0.1}"#),
        (r#"{"aDouble": "-Infinity", "aFloat": "NaN"}"#, r#"{"aFloat":"NaN","aDouble":"-Infinity"}"#),
        (r#"{"aDouble": "1.5", "aFloat": 2}"#, r#"{"aFloat":2,"aDouble":1.5}"#),
        // Names, null, strings, bytes.
        (r#"{"a_string": "x", "aBool": true}"#, r#"{"aBool":true,"aString":"x"}"#),
        (r#"{"aString": null, "many": null, "byString": null, "maybe": null}"#, r#"{}"#),
        (r#"{"aString": "a\"\\\n\u0001\u202e\ud83d\ude00é"}"#, r#"{"aString":"a\"\\\n\u0001\u202e😀é"}"#),
        (r#"{"someBytes": "+/8="}"#, r#"{"someBytes":"+/8="}"#),
        (r#"{"someBytes": "-_8"}"#, r#"{"someBytes":"+/8="}"#),
        (r#"{"maybe": 0}"#, r#"{"maybe":0}"#),
        // Enums, lists, maps, oneofs.
        (r#"{"aColor": "BLUE"}"#, r#"{"aColor":"BLUE"}"#),
        (
            r#"{"aColor": 1, "colors": [0, "RED", 5, 77]}"#,
            r#"{"aColor":"GREEN","colors":["RED","RED","BLUE",77]}"#,
        ),
        (
            r#"{"manyInts": [1, "2", 3.0], "many": [{}, {"i32": 1}]}"#,
            r#"{"manyInts":[1,2,3],"many":[{},{"i32":1}]}"#,
        ),
        (r#"{"byLong": {"10": "b", "-9": "a", "9": ""}}"#, r#"{"byLong":{"-9":"a","9":"","10":"b"}}"#),
        (r#"{"byBool": {"true": {}, "false": {"i32": 1}}}"#, r#"{"byBool":{"false":{"i32":1},"true":{}}}"#),
        (
            r#"{"byUint": {"4294967295": "BLUE"}, "byString": {"": 1}}"#,
            r#"{"byString":{"":1},"byUint":{"4294967295":"BLUE"}}"#,
        ),
        (r#"{"byName": "x", "byNumber": null}"#, r#"{"byName":"x"}"#),
        (r#"{"byNumber": 0}"#, r#"{"byNumber":0}"#),
        (r#"{"nothing": null}"#, r#"{"nothing":null}"#),
        // The well-known types.
        (r#"{"duration": "1.5s"}"#, r#"{"duration":"1.500s"}"#),
        (r#"{"duration": "-0.000000001s"}"#, r#"{"duration":"-0.000000001s"}"#),
        (r#"{"duration": "315576000000s"}"#, r#"{"duration":"315576000000s"}"#),
        (r#"{"timestamp": "0001-01-01T00:00:00Z"}"#, r#"{"timestamp":"0001-01-01T00:00:00Z"}"#),
        (
            r#"{"timestamp": "9999-12-31T23:59:59.999999999Z"}"#,
            r#"{"timestamp":"9999-12-31T23:59:59.999999999Z"}"#,
        ),
        (r#"{"timestamp": "2024-02-29T01:02:03.5+01:30"}"#, r#"{"timestamp":"2024-02-28T23:32:03.500Z"}"#),
        (r#"{"timestamp": "1969-12-31T23:59:59.25-00:00"}"#, r#"{"timestamp":"1969-12-31T23:59:59.250Z"}"#),
        (r#"{"mask": "a.bC,fooBar"}"#, r#"{"mask":"a.bC,fooBar"}"#),
        (r#"{"mask": ""}"#, r#"{"mask":""}"#),
        (
            r#"{"object": {"b": [1, null, {"c": "d"}], "a": true}}"#,
            r#"{"object":{"a":true,"b":[1,null,{"c":"d"}]}}"#,
        ),
        (r#"{"value": null, "values": [null, 1, "x"]}"#, r#"{"value":null,"values":[null,1,"x"]}"#),
        (
            r#"{"list": [1.5, []], "empty": {}, "valueByName": {"x": null}}"#,
            r#"{"list":[1.5,[]],"empty":{},"valueByName":{"x":null}}"#,
        ),
        (
            r#"{"doubleValue": 1, "floatValue": "NaN", "int64Value": 1, "uint64Value": "2", "int32Value": 3.0}"#,
            r#"{"doubleValue":1,"floatValue":"NaN","int64Value":"1","uint64Value":"2","int32Value":3}"#,
        ),
        (
            r#"{"uint32Value": 0, "boolValue": false, "stringValue": "", "bytesValue": "", "int32Value": null}"#,
            r#"{"uint32Value":0,"boolValue":false,"stringValue":"","bytesValue":""}"#,
        ),
        (
            r#"{"any": {"i32": 7, "@type": "x.example/t.All"}}"#,
            r#"{"any":{"@type":"x.example/t.All","i32":7}}"#,
        ),
        (
            r#"{"any": {"value": "1s", "@type": "type.googleapis.com/google.protobuf.Duration"}}"#,
            r#"{"any":{"@type":"type.googleapis.com/google.protobuf.Duration","value":"1s"}}"#,
        ),
        (
            r#"{"any": {"@type": "x/google.protobuf.Any", "value": {"@type": "x/t.All", "by_name": ""}}}"#,
            r#"{"any":{"@type":"x/google.protobuf.Any","value":{"@type":"x/t.All","byName":""}}}"#,
        ),
        (
            r#"{"any": {"@type": "x/google.protobuf.Empty"}}"#,
            r#"{"any":{"@type":"x/google.protobuf.Empty"}}"#,
        ),
        (r#"{"any": {}}"#, r#"{"any":{}}"#),
    ] {
        assert_eq!(there_and_back(&all, given), back, "{given}");
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() {
    let all = message(&compiled(KINDS), "t.All");
    for (given, wrong) in [
        (
            r#"{"i32": 2147483648}"#,
            "line 1, column 18, at i32: 2147483648 is out of range for a whole number of 32 bits",
        ),
        (r#"{"u32": -1}"#, "-1 is out of range for a whole number of 32 bits, not negative"),
        (r#"{"i64": 9223372036854775808.0}"#, "out of range"),
        (r#"{"u64": 1e30}"#, "out of range"),
        (r#"{"u64": "18446744073709551616"}"#, "out of range"),
        (r#"{"i32": 1.5}"#, "1.5 is not a whole number"),
        (r#"{"i32": "0x10"}"#, "\"0x10\" is not a whole number of 32 bits"),
        (r#"{"i32": " 1"}"#, "is not a whole number"),
        (r#"{"i32": ""}"#, "is not a whole number"),
        (r#"{"i32": true}"#, "invalid type: boolean `true`, expected a whole number of 32 bits"),
        (r#"{"aFloat": 3.5e38}"#, "out of range for a number (float)"),
        (r#"{"aFloat": "inf"}"#, "\"inf\" is not a number (float)"),
        (r#"{"aDouble": 1e400}"#, "number out of range"),
        (r#"{"aBool": "true"}"#, "expected true or false"),
        (r#"{"aBool": 1}"#, "expected true or false"),
        (r#"{"aString": 1}"#, "expected a string"),
        (r#"{"someBytes": "*"}"#, "this is not base64"),
        (r#"{"aColor": "PINK"}"#, "there is no enum value \"PINK\""),
        (r#"{"aColor": "GREN"}"#, "did you mean GREEN"),
        (r#"{"aColor": 1.5}"#, "not a whole number"),
        (
            r#"{"a_strin": ""}"#,
            "t.All has no such field: there is no field \"a_strin\"; did you mean aString",
        ),
        (r#"{"aString": "x", "a_string": "y"}"#, "at a_string: the field is there twice"),
        (r#"{"byName": "x", "byNumber": 1}"#, "by_name is already set, and the oneof choice has one field"),
        (r#"{"manyInts": 1}"#, "expected a list"),
        (r#"{"manyInts": [1, null]}"#, "at many_ints[1]: invalid type: null"),
        (r#"{"many": [{}, {"i32": "x"}]}"#, "at many[1].i32: "),
        (r#"{"byString": []}"#, "expected an object (a map)"),
        (r#"{"byLong": {"x": ""}}"#, "at by_long.x: \"x\" is not a whole number of 64 bits"),
        (r#"{"byBool": {"1": {}}}"#, "\"1\" is not true or false"),
        (r#"{"byLong": {"1": "", "1": ""}}"#, "the key is there twice"),
        (r#"{"innerAll": {"innerAll": {"byString": {"k": "x"}}}}"#, "at inner_all.inner_all.by_string.k: "),
        (r#"{"innerAll": []}"#, "expected an object (t.All)"),
        (r#"{"duration": "1"}"#, "\"1\" is not a duration such as"),
        (r#"{"duration": "315576000000.1s"}"#, "is not a duration"),
        (r#"{"duration": "1.0000000001s"}"#, "is not a duration"),
        (r#"{"duration": "1.s"}"#, "is not a duration"),
        (r#"{"duration": "+1s"}"#, "is not a duration"),
        (r#"{"timestamp": "2023-02-29T00:00:00Z"}"#, "is not a time such as"),
        (r#"{"timestamp": "0000-12-31T00:00:00Z"}"#, "is not a time"),
        (r#"{"timestamp": "9999-12-31T23:59:59-00:01"}"#, "is not a time"),
        (r#"{"timestamp": "2024-01-01t00:00:00Z"}"#, "is not a time"),
        (r#"{"timestamp": "2024-01-01T00:00:60Z"}"#, "is not a time"),
        (r#"{"timestamp": "2024-13-01T00:00:00Z"}"#, "is not a time"),
        (r#"{"timestamp": "2024-01-01T00:00:00"}"#, "is not a time"),
        (
            r#"{"times": ["2024-01-01T00:00:00Z", 1]}"#,
            "at times[1]: invalid type: integer `1`, expected a time such as",
        ),
        (r#"{"mask": "a_b"}"#, "is not names of fields such as"),
        (r#"{"any": {"i32": 1}}"#, "there is no \"@type\""),
        (r#"{"any": {"@type": "x/t.None"}}"#, "the type t.None is unknown"),
        (r#"{"any": {"@type": "t.All"}}"#, "has no / before the name"),
        (
            "{\"any\": {\"@type\": \"x/t.All\",\n \"many\": [{\"i32\": \"x\"}]}}",
            "line 2, column 21, at any.many[0].i32: ",
        ),
        (r#"{"any": {"@type": "x/google.protobuf.Duration"}}"#, "there is no \"value\""),
        (r#"{"any": {"@type": "x/google.protobuf.Duration", "value": "1s", "x": 1}}"#, "\"x\" has no place"),
        ("{\n  \"i32\": 1,\n  \"i64\": x}", "line 3, column 10, at i64: expected value"),
        (r#"{"i32": 1"#, "EOF while parsing an object"),
        (r#"{"i32": 1}}"#, "trailing characters"),
        ("[]", "invalid type: sequence, expected an object (t.All)"),
    ] {
        let misfit =
            read(&all, given).map(|message| json::text(&message, Names::Json)).unwrap_err().to_string();
        assert!(misfit.contains(wrong), "{given}\n   {misfit}\n   {wrong}");
    }
    let deep = format!("{}{}", r#"{"innerAll":"#.repeat(200), "}".repeat(200));
    assert!(read(&all, &deep).unwrap_err().reason.contains("recursion limit"));
    let any = r#"{"@type": "x/google.protobuf.Any", "value": "#;
    let deep = format!("{{\"any\":{}{{}}{}}}", any.repeat(100), "}".repeat(100));
    assert!(read(&all, &deep).unwrap_err().reason.contains("within each other"));
}

#[test]
fn proto2_has_groups_extensions_defaults_and_required_fields() {
    let schema = compiled(
        r#"
        syntax = "proto2";
        package t;
        message Two {
            required int32 must = 1;
            optional group Inner = 2 { optional string text = 1; }
            repeated group Many = 3 { optional int32 n = 1; }
            optional int32 seven = 4 [default = 7];
            optional bytes raw = 5 [default = "\001"];
            extensions 100 to 200;
        }
        extend Two { optional string note = 100; repeated Two more = 101; }
        message Scope { extend Two { optional int32 deep = 102; } }
        "#,
    );
    let two = message(&schema, "t.Two");
    for (given, back) in [
        (r#"{"must": 0}"#, r#"{"must":0}"#),
        (
            r#"{"must": 1, "inner": {"text": "x"}, "many": [{"n": 1}, {}]}"#,
            r#"{"must":1,"inner":{"text":"x"},"many":[{"n":1},{}]}"#,
        ),
        (
            r#"{"must": 1, "[t.note]": "x", "[t.more]": [{"must": 2}], "[t.Scope.deep]": 3}"#,
            r#"{"must":1,"[t.note]":"x","[t.more]":[{"must":2}],"[t.Scope.deep]":3}"#,
        ),
        (r#"{"must": 1, "seven": 7}"#, r#"{"must":1,"seven":7}"#),
    ] {
        assert_eq!(there_and_back(&two, given), back);
    }
    assert!(read(&two, "{}").unwrap_err().reason.contains("the required field must is missing"));
    assert!(read(&two, r#"{"must": 1, "[t.more]": [{}]}"#).unwrap_err().path == "[t.more][0]");
}

#[test]
fn what_has_no_form_is_shown_by_its_fields_and_what_is_unknown_by_its_number() {
    let schema = compiled(KINDS);
    let all = message(&schema, "t.All");
    let shown = |bytes: &[u8]| json::text(&DynamicMessage::decode(all.clone(), bytes).unwrap(), Names::Json);
    let field = |number: u32, bytes: &[u8]| {
        let mut field = Vec::new();
        prost::encoding::bytes::encode(number, &bytes.to_vec(), &mut field);
        field
    };
    // A time after the year 9999, and nanoseconds that are none.
    let late = [&[0x08][..], &[0xff; 8], &[0x7f]].concat();
    assert_eq!(shown(&field(42, &late)), r#"{"timestamp":{"seconds":"9223372036854775807"}}"#);
    assert_eq!(shown(&field(42, &[0x10, 0xff, 0xff, 0xff, 0xff, 0x0f])), r#"{"timestamp":{"nanos":-1}}"#);
    assert_eq!(
        shown(&field(41, &[0x08, 1, 0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1])),
        r#"{"duration":{"seconds":"1","nanos":-1}}"#
    );
    assert_eq!(shown(&field(43, b"\x0a\x03a_1")), r#"{"mask":{"paths":["a_1"]}}"#);
    assert_eq!(shown(&field(40, b"\x0a\x03x/y\x12\x01z")), r#"{"any":{"@type":"x/y","value":"eg=="}}"#);
    assert_eq!(shown(&field(45, &[&[0x11][..], &f64::NAN.to_le_bytes()].concat())), r#"{"value":"NaN"}"#);
    let mut unknown = field(900, b"text");
    unknown.extend(field(901, b"\x00\xff"));
    prost::encoding::uint64::encode(902, &150, &mut unknown);
    prost::encoding::uint64::encode(902, &u64::MAX, &mut unknown);
    prost::encoding::fixed32::encode(903, &7, &mut unknown);
    prost::encoding::fixed64::encode(904, &8, &mut unknown);
    // Field 1 within a group of number 905.
    unknown.extend([0xcb, 0x38, 0x08, 5, 0xcc, 0x38]);
    assert_eq!(
        shown(&unknown),
        r#"{"900":"text","901":"AP8=","902":[150,"18446744073709551615"],"903":7,"904":8,"905":{"1":5}}"#
    );
}

#[test]
fn messages_that_are_within_each_other_without_an_end_are_shown_to_some_depth() {
    let schema = compiled(KINDS);
    let mut bytes = Vec::new();
    for _ in 0..20_000 {
        let any = prost_types::Any { type_url: "x/google.protobuf.Any".to_owned(), value: bytes };
        bytes = any.encode_to_vec();
        if bytes.len() > 4 << 20 {
            break;
        }
    }
    let any = message(&schema, "google.protobuf.Any");
    let shown = json::text(&DynamicMessage::decode(any, bytes.as_slice()).unwrap(), Names::Json);
    assert!(shown.starts_with(r#"{"@type":"x/google.protobuf.Any","value":{"@type""#));
    serde_json::from_str::<serde_json::Value>(&shown).unwrap();
}

#[test]
fn names_are_as_in_the_proto_where_that_is_asked_for() {
    let all = message(&compiled(KINDS), "t.All");
    let given = r#"{"manyInts": [1], "timestamp": "2024-01-01T00:00:00Z"}"#;
    let message = read(&all, given).unwrap();
    assert_eq!(json::text(&message, Names::Proto), r#"{"many_ints":[1],"timestamp":"2024-01-01T00:00:00Z"}"#);
    let readable = json::readable(&message, Names::Json);
    assert_eq!(readable, "{\n  \"manyInts\": [\n    1\n  ],\n  \"timestamp\": \"2024-01-01T00:00:00Z\"\n}");
}
