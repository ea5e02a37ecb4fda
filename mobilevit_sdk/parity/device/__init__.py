"""Device reports: the answers of phones, judged as those of every runtime."""

from mobilevit_sdk.parity.device.collecting import collect_runs
from mobilevit_sdk.parity.device.files import (
    MAX_BYTES,
    SUFFIX,
    DeviceReportLike,
    open_device_reports,
    parse_device_report,
    read_device_report,
    seal,
    write_device_report,
)
from mobilevit_sdk.parity.device.judging import device_runs
from mobilevit_sdk.parity.device.latencies import PhoneRow, phone_rows
from mobilevit_sdk.parity.device.types import (
    App,
    CaseOutputs,
    Device,
    DeviceReport,
    DeviceRun,
    Latency,
    ReportedArtifact,
    Timing,
)

__all__ = [
    "MAX_BYTES",
    "SUFFIX",
    "App",
    "CaseOutputs",
    "Device",
    "DeviceReport",
    "DeviceReportLike",
    "DeviceRun",
    "Latency",
    "PhoneRow",
    "ReportedArtifact",
    "Timing",
    "collect_runs",
    "device_runs",
    "open_device_reports",
    "parse_device_report",
    "phone_rows",
    "read_device_report",
    "seal",
    "write_device_report",
]
