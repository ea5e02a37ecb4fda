"""Phone formats, one package each, found through the entry-point group `mobilevit_sdk.converters`.

Each package offers a `converter` that fulfills `formats.Converter`: it emits its files, reads them back
and brings the runtimes that run them. A package imports its toolchain only when it is used, so that naming a format
costs nothing and a missing toolchain spoils no other format.
"""
