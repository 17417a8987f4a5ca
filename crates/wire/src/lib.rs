//! The store's protobuf messages and their checked conversions.
