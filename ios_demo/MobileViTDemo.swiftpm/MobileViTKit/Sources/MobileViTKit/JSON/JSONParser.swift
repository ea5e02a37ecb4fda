import Foundation

/// RFC 8259 and no more: UTF-8 without a byte order mark, no key twice, no lone surrogates, numbers that a double holds.
struct JSONParser {
    struct Failure: Error {
        let reason: String
        let offset: Int
    }

    private let bytes: [UInt8]
    private var index = 0
    private static let maxDepth = 64

    static func parse(_ data: Data) throws -> JSON {
        guard String(data: data, encoding: .utf8) != nil else { throw Failure(reason: "not UTF-8", offset: 0) }
        var parser = JSONParser(bytes: [UInt8](data))
        let value = try parser.value(depth: 0)
        parser.skipSpace()
        guard parser.index == parser.bytes.count else { throw parser.failure("something follows") }
        return value
    }

    private init(bytes: [UInt8]) { self.bytes = bytes }

    private var next: UInt8? { index < bytes.count ? bytes[index] : nil }

    private func failure(_ reason: String) -> Failure { Failure(reason: reason, offset: index) }

    private mutating func skipSpace() {
        while let byte = next, byte == 0x20 || byte == 0x0a || byte == 0x0d || byte == 0x09 { index += 1 }
    }

    private mutating func take(_ text: StaticString) -> Bool {
        let count = text.utf8CodeUnitCount
        guard bytes.count - index >= count, (0..<count).allSatisfy({ bytes[index + $0] == text.utf8Start[$0] }) else {
            return false
        }
        index += count
        return true
    }

    private mutating func value(depth: Int) throws -> JSON {
        guard depth < Self.maxDepth else { throw failure("nested too deeply") }
        skipSpace()
        switch next ?? 0 {  // 0 starts no value
        case UInt8(ascii: "{"): return .object(try object(depth: depth))
        case UInt8(ascii: "["): return .list(try list(depth: depth))
        case UInt8(ascii: "\""): return .text(try text())
        case UInt8(ascii: "-"), UInt8(ascii: "0")...UInt8(ascii: "9"): return try number()
        default:
            if take("true") { return .bool(true) }
            if take("false") { return .bool(false) }
            if take("null") { return .null }
            throw failure(next == nil ? "cut short" : "no value")
        }
    }

    private mutating func object(depth: Int) throws -> [String: JSON] {
        var members: [String: JSON] = [:]
        index += 1
        skipSpace()
        if take("}") { return members }
        while true {
            skipSpace()
            guard next == UInt8(ascii: "\"") else { throw failure("no key") }
            let key = try text()
            skipSpace()
            guard take(":") else { throw failure("no colon") }
            guard members.updateValue(try value(depth: depth + 1), forKey: key) == nil else {
                throw failure("a key twice")
            }
            skipSpace()
            if take("}") { return members }
            guard take(",") else { throw failure("no comma") }
        }
    }

    private mutating func list(depth: Int) throws -> [JSON] {
        var values: [JSON] = []
        index += 1
        skipSpace()
        if take("]") { return values }
        while true {
            values.append(try value(depth: depth + 1))
            skipSpace()
            if take("]") { return values }
            guard take(",") else { throw failure("no comma") }
        }
    }

    private mutating func text() throws -> String {
        var result: [UInt8] = []  // UTF-8, as the whole document is
        index += 1
        while let byte = next {
            index += 1
            switch byte {
            case UInt8(ascii: "\""): return String(decoding: result, as: UTF8.self)
            case UInt8(ascii: "\\"): result += Array(String(try escaped()).utf8)
            case 0..<0x20: throw failure("a control character in a text")
            default: result.append(byte)
            }
        }
        throw failure("cut short")
    }

    private mutating func escaped() throws -> Unicode.Scalar {
        guard let byte = next else { throw failure("cut short") }
        index += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(byte)
        case UInt8(ascii: "b"): return "\u{8}"
        case UInt8(ascii: "f"): return "\u{c}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"):
            let high = try fourDigits()
            if let scalar = Unicode.Scalar(high) { return scalar }
            guard high < 0xdc00, take("\\u") else { throw failure("a lone surrogate") }
            let low = try fourDigits()
            guard (0xdc00..<0xe000).contains(low),
                let scalar = Unicode.Scalar(0x10000 + (high - 0xd800) << 10 + (low - 0xdc00))
            else {
                throw failure("a lone surrogate")
            }
            return scalar
        default: throw failure("an unknown escape")
        }
    }

    private mutating func fourDigits() throws -> UInt32 {
        var result: UInt32 = 0
        for _ in 0..<4 {
            guard let byte = next, let digit = Character(Unicode.Scalar(byte)).hexDigitValue else {
                throw failure("no hexadecimal digit")
            }
            result = result << 4 | UInt32(digit)
            index += 1
        }
        return result
    }

    private mutating func number() throws -> JSON {
        let start = index
        _ = take("-")
        if !take("0") { try digits() }  // no leading zeros
        var isInteger = true
        if take(".") {
            isInteger = false
            try digits()
        }
        if take("e") || take("E") {
            isInteger = false
            if !take("+") { _ = take("-") }
            try digits()
        }
        let text = String(decoding: bytes[start..<index], as: UTF8.self)
        if isInteger, let integer = Int(text) { return .integer(integer) }
        guard let number = Double(text), number.isFinite else { throw failure("a number that is too large") }
        return .number(number)
    }

    private mutating func digits() throws {
        let start = index
        while let byte = next, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) { index += 1 }
        guard index > start else { throw failure("no digit") }
    }
}
