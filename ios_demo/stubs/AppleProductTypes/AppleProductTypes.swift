@_exported import PackageDescription

public enum ProductSetting {
    public enum IOSAppInfo {
        public enum DeviceFamily: Sendable {
            case phone, pad, mac
        }
        public struct DeviceFamilyCondition: Sendable {
            public static func when(deviceFamilies: [DeviceFamily]) -> DeviceFamilyCondition { fatalError() }
        }
        public struct InterfaceOrientation: Sendable {
            public static let portrait = InterfaceOrientation()
            public static let portraitUpsideDown = InterfaceOrientation()
            public static let landscapeRight = InterfaceOrientation()
            public static let landscapeLeft = InterfaceOrientation()
            public static func portraitUpsideDown(_ condition: DeviceFamilyCondition? = nil) -> InterfaceOrientation {
                fatalError()
            }
        }
        public enum AppIcon: Sendable {
            public struct PlaceholderIcon: Sendable {
                public static let camera = PlaceholderIcon()
            }
            case placeholder(icon: PlaceholderIcon)
            case asset(String)
        }
        public enum AccentColor: Sendable {
            public struct PresetColor: Sendable {
                public static let indigo = PresetColor()
            }
            case presetColor(PresetColor)
            case asset(String)
        }
        public struct Capability: Sendable {
            public static func camera(purposeString: String, _ condition: DeviceFamilyCondition? = nil) -> Capability {
                fatalError()
            }
        }
        public struct AppCategory: Sendable {
            public static let developerTools = AppCategory()
        }
    }
}

extension Product {
    public static func iOSApplication(
        name: String, targets: [String], bundleIdentifier: String? = nil, teamIdentifier: String? = nil,
        displayVersion: String? = nil, bundleVersion: String? = nil, appIcon: ProductSetting.IOSAppInfo.AppIcon? = nil,
        accentColor: ProductSetting.IOSAppInfo.AccentColor? = nil,
        supportedDeviceFamilies: [ProductSetting.IOSAppInfo.DeviceFamily],
        supportedInterfaceOrientations: [ProductSetting.IOSAppInfo.InterfaceOrientation],
        capabilities: [ProductSetting.IOSAppInfo.Capability] = [],
        appCategory: ProductSetting.IOSAppInfo.AppCategory? = nil, additionalInfoPlistContentFilePath: String? = nil
    ) -> Product { fatalError() }
}
