//! Where an endpoint is reached: `host:port/endpoint-id`.

use std::fmt;
use std::str::FromStr;

/// Longest endpoint id; ids travel with every call.
const MAX_ENDPOINT_ID: usize = 128;

/// `host:port/endpoint-id`. Two processes never share `host:port`; within one, ids are unique at any time.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RpcAddress {
    node: String,
    endpoint: String,
}

impl RpcAddress {
    /// Puts an address together and checks it. `node` is empty for a service that does not listen.
    pub fn new(node: impl Into<String>, endpoint: impl Into<String>) -> Result<RpcAddress, BadAddress> {
        let address = RpcAddress { node: node.into(), endpoint: endpoint.into() };
        let bad = |why| Err(BadAddress { value: address.to_string(), why });
        if !address.node.is_empty()
            && let Err(error) = palisade_world::grpc::check_address(&address.node)
        {
            return bad(error.why);
        }
        match address.endpoint.as_str() {
            "" => bad("the endpoint id is empty"),
            id if id.len() > MAX_ENDPOINT_ID => bad("the endpoint id is longer than 128 bytes"),
            id if id.chars().any(|c| c.is_control() || c.is_whitespace()) => {
                bad("the endpoint id has white space or control characters")
            }
            _ => Ok(address),
        }
    }

    /// `host:port` of the process.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The endpoint's id in that process.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }
}

impl fmt::Display for RpcAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.endpoint)
    }
}

impl FromStr for RpcAddress {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<RpcAddress, BadAddress> {
        match text.split_once('/') {
            Some((node, endpoint)) => RpcAddress::new(node, endpoint),
            None => Err(BadAddress { value: text.to_owned(), why: "there is no '/' before an endpoint id" }),
        }
    }
}

/// The text is not `host:port/endpoint-id`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address: '{value}': {why} (expected HOST:PORT/ENDPOINT)")]
pub struct BadAddress {
    /// What was given.
    pub value: String,
    /// What is wrong with it.
    pub why: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_host_port_and_endpoint() {
        let address: RpcAddress = "127.0.0.1:7000/job/7".parse().unwrap();
        assert_eq!((address.node(), address.endpoint()), ("127.0.0.1:7000", "job/7"));
        assert_eq!(address.to_string(), "127.0.0.1:7000/job/7");
        for bad in ["127.0.0.1:7000", "127.0.0.1/x", "127.0.0.1:7000/", "127.0.0.1:7000/a b"] {
            assert!(bad.parse::<RpcAddress>().is_err(), "{bad}");
        }
    }
}
