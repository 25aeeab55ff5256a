"""Wire and disk messages: the .proto files and the modules made from them (`python -m tercet.proto.generate`)."""
