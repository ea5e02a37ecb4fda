import Foundation

#if canImport(Darwin)
import Darwin
#elseif canImport(Glibc)
import Glibc
#endif

/// The device that a report is of.
public struct DeviceFacts: Equatable, Sendable {
    /// Apple's identifier, such as "iPhone16,1".
    public let model: String
    /// Such as "iOS 18.1".
    public let system: String
    /// nil where the system does not say, as on iOS.
    public let processor: String?

    public init(model: String, system: String, processor: String?) {
        self.model = model
        self.system = system
        self.processor = processor
    }

    /// Of this device.
    public static var current: DeviceFacts {
        let version = ProcessInfo.processInfo.operatingSystemVersion
        let numbers =
            [version.majorVersion, version.minorVersion] + (version.patchVersion > 0 ? [version.patchVersion] : [])
        let number = numbers.map(String.init).joined(separator: ".")
        #if targetEnvironment(simulator)
        let name = ProcessInfo.processInfo.environment["SIMULATOR_MODEL_IDENTIFIER"] ?? "unknown"
        return DeviceFacts(model: "\(name) (simulator)", system: "iOS \(number)", processor: nil)
        #elseif os(iOS)
        // There, the system calls itself an iPad.
        let host = ProcessInfo.processInfo.isiOSAppOnMac ? " (on a Mac)" : ""
        return DeviceFacts(
            model: (sysctl("hw.machine") ?? "unknown") + host, system: "iOS \(number)", processor: nil)
        #elseif os(macOS)
        let processor = sysctl("machdep.cpu.brand_string")
        return DeviceFacts(model: sysctl("hw.model") ?? "unknown", system: "macOS \(number)", processor: processor)
        #else
        return DeviceFacts(model: "unknown", system: "Linux \(number)", processor: nil)
        #endif
    }

    /// "nominal", "fair", "serious" or "critical"; nil where the system does not say.
    public static var thermalState: String? {
        #if canImport(Darwin)
        switch ProcessInfo.processInfo.thermalState {
        case .nominal: return "nominal"
        case .fair: return "fair"
        case .serious: return "serious"
        case .critical: return "critical"
        @unknown default: return nil
        }
        #else
        return nil
        #endif
    }

    /// The most memory that this process has held so far; nil where the system does not say.
    public static var peakMemoryBytes: Int? {
        var usage = rusage()
        #if canImport(Darwin)
        return getrusage(RUSAGE_SELF, &usage) == 0 ? Int(usage.ru_maxrss) : nil  // in bytes
        #elseif canImport(Glibc)
        return getrusage(numericCast(RUSAGE_SELF.rawValue), &usage) == 0 ? Int(usage.ru_maxrss) * 1024 : nil
        #else
        return nil
        #endif
    }

    #if canImport(Darwin)
    private static func sysctl(_ name: String) -> String? {
        var size = 0
        guard sysctlbyname(name, nil, &size, nil, 0) == 0, (1...4096).contains(size) else { return nil }
        var bytes = [UInt8](repeating: 0, count: size)
        guard sysctlbyname(name, &bytes, &size, nil, 0) == 0 else { return nil }
        return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    }
    #endif
}
