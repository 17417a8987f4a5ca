//! One coordination node: gRPC services, admission, formation.
