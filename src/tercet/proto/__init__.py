"""Protobuf messages: .proto files, the modules generated from them, and the wire format by hand where speed matters."""
