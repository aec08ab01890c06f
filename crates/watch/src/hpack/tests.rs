use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

fn fields(hpack: &mut Hpack, block: &[u8]) -> Result<Vec<String>, Invalid> {
    let mut fields = Vec::new();
    hpack.decode(block, |name, value, _| {
        fields.push(format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value)));
    })?;
    Ok(fields)
}

/// Blocks of one direction, each with its fields and with the size of the table after
/// it.
fn check(hpack: &mut Hpack, blocks: &[(&str, &[&str], usize)]) {
    for (block, expected, size) in blocks {
        assert_eq!(fields(hpack, &bytes(block)).unwrap(), *expected);
        assert_eq!(hpack.size(), *size, "{block}");
    }
}

const FIRST: &[&str] = &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
const SECOND: &[&str] =
    &[":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com", "cache-control: no-cache"];
const THIRD: &[&str] = &[
    ":method: GET",
    ":scheme: https",
    ":path: /index.html",
    ":authority: www.example.com",
    "custom-key: custom-value",
];

#[test]
fn requests_of_appendix_c() {
    let plain = [
        ("8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d", FIRST, 57),
        ("8286 84be 5808 6e6f 2d63 6163 6865", SECOND, 110),
        ("8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65", THIRD, 164),
    ];
    check(&mut Hpack::new(), &plain);
    let huffman = [
        ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", FIRST, 57),
        ("8286 84be 5886 a8eb 1064 9cbf", SECOND, 110),
        ("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf", THIRD, 164),
    ];
    check(&mut Hpack::new(), &huffman);
}

#[test]
fn responses_of_appendix_c_evict_from_a_table_of_256_bytes() {
    const FIRST: &[&str] = &[
        ":status: 302",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ];
    const SECOND: &[&str] = &[
        ":status: 307",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:21 GMT",
        "location: https://www.example.com",
    ];
    const THIRD: &[&str] = &[
        ":status: 200",
        "cache-control: private",
        "date: Mon, 21 Oct 2013 20:13:22 GMT",
        "location: https://www.example.com",
        "content-encoding: gzip",
        "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
    ];
    let plain = [
        (
            "3fe1 01
             4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032
             303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63
             6f6d",
            FIRST,
            222,
        ),
        ("4803 3330 37c1 c0bf", SECOND, 222),
        (
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0
             5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851
             5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
            THIRD,
            215,
        ),
    ];
    check(&mut Hpack::new(), &plain);
    let huffman = [
        (
            "3fe1 01
             4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b
             ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            FIRST,
            222,
        ),
        ("4883 640e ffc1 c0bf", SECOND, 222),
        (
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad
             94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160
             65c0 03ed 4ee5 b106 3d50 07",
            THIRD,
            215,
        ),
    ];
    check(&mut Hpack::new(), &huffman);
}

#[test]
fn literals_of_appendix_c() {
    let mut hpack = Hpack::new();
    let added = "400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572";
    check(&mut hpack, &[(added, &["custom-key: custom-header"], 55)]);
    let mut hpack = Hpack::new();
    check(&mut hpack, &[("040c 2f73 616d 706c 652f 7061 7468", &[":path: /sample/path"], 0)]);
    check(&mut hpack, &[("1008 7061 7373 776f 7264 0673 6563 7265 74", &["password: secret"], 0)]);
    check(&mut hpack, &[("82", &[":method: GET"], 0)]);
}

#[test]
fn what_is_not_valid_is_said_to_be() {
    for wrong in [
        "80",                // the entry 0
        "be",                // an entry that is not there
        "ff80 8080 8080 01", // a number without end
        "ff",                // a number that is cut
        "400a 63",           // a string that is cut
        "3fe1 ffff 7f",      // a table of 1 GiB
        "0081 ff 00",        // a byte of padding
        "0081 fe 00",        // padding that is no end of a string
        "0084 ffff ffff 00", // the end of a string, in a string
    ] {
        assert_eq!(fields(&mut Hpack::new(), &bytes(wrong)), Err(Invalid), "{wrong}");
    }
    // What is too large for the table empties it.
    let mut hpack = Hpack::new();
    let large = [&[0x40, 1, b'a', 0x7f, 0xa1, 0x1f][..], &[b'x'; 4128]].concat();
    assert!(fields(&mut hpack, &bytes("4001 6101 62")).is_ok());
    assert!(fields(&mut hpack, &large).is_ok());
    assert_eq!(hpack.size(), 0);
}
