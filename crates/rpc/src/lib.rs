//! RpcService, RpcEndpoint, FencedRpcEndpoint, RpcGateway: actors whose messages carry fencing tokens.
