import XCTest

@testable import MobileViTKit

final class JSONTests: XCTestCase {
    private func parse(_ text: String) throws -> JSON { try JSONNode(Data(text.utf8), file: "x.json").value }

    func testEveryKindOfValueIsRead() throws {
        let text =
            #" {"a": [1, -2, 0.5, -1e-3, 2E+2, true, false, null], "b": {}, "c": [], "é": "\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00é😀"} "#
        XCTAssertEqual(
            try parse(text),
            [
                "a": .list([
                    1, .integer(-2), .number(0.5), .number(-0.001), .number(200), .bool(true), .bool(false), .null,
                ]),
                "b": [:], "c": .list([]), "é": .text("\"\\/\u{8}\u{c}\n\r\té😀é😀"),
            ]
        )
        XCTAssertEqual(try parse("9223372036854775807"), .integer(.max))
        XCTAssertEqual(try parse("9223372036854775808"), .number(9_223_372_036_854_775_808))
        XCTAssertEqual(try parse("0"), 0)
    }

    func testWhatIsNotJSONIsRefused() {
        let texts = [
            "", " ", "{", "[", "[1", "[1,", "[1,]", "{\"a\"", "{\"a\":", "{\"a\":1", "{\"a\":1,", "{\"a\":1,}", "{a:1}",
            "{\"a\" 1}", "{1:1}",
            "01", "-", "1.", ".5", "1e", "1e+", "+1", "0x1", "NaN", "Infinity", "1e999", "-1e999", "tru", "nul", "True",
            "\"", "\"\\", "\"\\u12", "\"\\u12g4\"", "\"\\x\"", "\"\u{1}\"", "\"\\ud800\"", "\"\\udc00\"",
            "\"\\ud800\\u0041\"", "\"\\ud800\\ud800\"",
            "1 2", "{} {}", "\u{FEFF}{}", "{\"a\":1,\"a\":2}", "{\"a\":1,\"\\u0061\":2}", "'a'", "[1 2]", "// x",
            String(repeating: "[", count: 100_000), String(repeating: "{\"a\":", count: 100_000),
        ]
        for text in texts { assertThrowsKitError(try parse(text), "x.json is not JSON") }
        assertThrowsKitError(try JSONNode(Data([0x22, 0xff, 0x22]), file: "x.json"), "not UTF-8")
    }

    func testErrorsSayThePlace() throws {
        let node = try JSONNode(Data(#"{"a": {"b": [1, "x"]}}"#.utf8), file: "x.json")
        assertThrowsKitError(try node["a"]["c"].text(), "x.json: a.c is missing")
        assertThrowsKitError(try node["a"]["b"].text(), "x.json: a.b is not a text")
        assertThrowsKitError(try node["a"]["b"].list().map { try $0.integer() }, "x.json: a.b[1] is not an integer")
    }
}
