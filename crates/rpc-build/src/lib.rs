//! Generates typed gateways from .proto files; called from build.rs.
