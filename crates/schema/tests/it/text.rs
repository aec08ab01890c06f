//! Schemas for people.

use schema::template::template;

use crate::support::{compiled, message, read};

const SOURCE: &str = r#"
syntax = "proto3";
package shop;
// Sells.
service Shop {
  // Buys one thing.
  // And one only.
  rpc Buy(Order) returns (Receipt);
  rpc Watch(Order) returns (stream Receipt);
  rpc Fill(stream Order) returns (Receipt);
  rpc Talk(stream Order) returns (stream Receipt);
}
// What is bought.
message Order {
  // Which.
  string item_name = 1;
  repeated int32 sizes = 2;
  optional bool gift = 3;
  oneof pay { string card = 4; int64 cash = 5; }
  map<string, Kind> kinds = 6;
  Order again = 7;
}
enum Kind {
  // Not said.
  KIND_UNSPECIFIED = 0;
  KIND_NEW = 1;
}
message Receipt { double total = 1; }
"#;

#[test]
fn a_service_is_shown_with_its_comments_and_all_that_it_needs() {
    let schema = compiled(SOURCE);
    let text = schema.text("shop.Shop").unwrap();
    assert_eq!(
        text,
        "// Sells.
service shop.Shop {
  // Buys one thing.
  // And one only.
  rpc Buy(shop.Order) returns (shop.Receipt); // unary

  rpc Watch(shop.Order) returns (stream shop.Receipt); // server-streaming

  rpc Fill(stream shop.Order) returns (shop.Receipt); // client-streaming

  rpc Talk(stream shop.Order) returns (stream shop.Receipt); // bidi-streaming
}

// What is bought.
message shop.Order {
  // Which.
  string item_name = 1;
  repeated int32 sizes = 2;
  optional bool gift = 3;
  oneof pay {
    string card = 4;
    int64 cash = 5;
  }
  map<string, shop.Kind> kinds = 6;
  shop.Order again = 7;
}

enum shop.Kind {
  // Not said.
  KIND_UNSPECIFIED = 0;
  KIND_NEW = 1;
}

message shop.Receipt {
  double total = 1;
}
"
    );
    for name in ["shop.Shop/Buy", "shop.Shop.Buy"] {
        let text = schema.text(name).unwrap();
        assert!(text.contains("rpc Buy(") && !text.contains("rpc Watch("), "{text}");
    }
    assert!(schema.text("shop.Kind").unwrap().starts_with("enum shop.Kind {"));
    let error = schema.text("shop.Shop/By").unwrap_err().to_string();
    assert_eq!(error, "there is no method \"By\"; did you mean Buy?");
    let error = schema.text("shop.Shp").unwrap_err().to_string();
    assert!(
        error.starts_with("there is no service or message \"shop.Shp\"; did you mean shop.Shop"),
        "{error}"
    );
}

#[test]
fn a_template_has_every_field_and_can_be_sent() {
    let order = message(&compiled(SOURCE), "shop.Order");
    let filled = template(&order, false).to_string();
    assert_eq!(
        filled,
        r#"{"itemName":"","sizes":[0],"gift":false,"card":"","kinds":{"key":"KIND_UNSPECIFIED"},"again":{}}"#
    );
    read(&order, &filled).unwrap();
    assert!(template(&order, true).to_string().starts_with(r#"{"item_name":"#));
}
