//! What is known of single methods by their path. A method that is not named here is forwarded as a request that may have an
//! effect: that is always safe to say.

use palisade_wire::coord::v1;
use prost::Message;

/// How a call is treated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Method {
    /// It may have an effect, so a broken connection leaves its outcome unknown.
    Effect,
    /// A stream of them.
    Effects,
    /// It has no effect.
    Read,
    /// A stream that only tells.
    Listen,
    /// It is answered where it arrives: a session stream is relayed by its service.
    Own,
}

const KNOWN: [(&str, Method); 15] = [
    ("/palisade.coord.v1.KvService/Get", Method::Read),
    ("/palisade.coord.v1.KvService/Range", Method::Read),
    ("/palisade.coord.v1.WatchService/Watch", Method::Listen),
    ("/palisade.coord.v1.KvService/Pipeline", Method::Effects),
    ("/palisade.coord.v1.ElectionService/Leader", Method::Read),
    ("/palisade.coord.v1.ElectionService/List", Method::Read),
    ("/palisade.coord.v1.ElectionService/Observe", Method::Listen),
    ("/palisade.coord.v1.ElectionService/History", Method::Read),
    ("/palisade.coord.v1.SessionService/List", Method::Read),
    ("/palisade.coord.v1.ClusterService/Members", Method::Read),
    ("/palisade.coord.v1.ClusterService/Snapshot", Method::Listen),
    ("/palisade.coord.v1.ClusterService/Status", Method::Own),
    ("/palisade.coord.v1.ClusterService/Health", Method::Own),
    ("/palisade.coord.v1.SessionService/Stream", Method::Own),
    ("/palisade.coord.v1.SessionService/Attach", Method::Own),
];

/// Whether a request asks for what any node has applied.
type Serializable = fn(&[u8]) -> bool;

/// Reads that any node may serve by itself.
const ANYWHERE: [(&str, Serializable); 6] = [
    ("/palisade.coord.v1.KvService/Get", |it| decoded::<v1::GetRequest>(it).serializable),
    ("/palisade.coord.v1.KvService/Range", |it| decoded::<v1::RangeRequest>(it).serializable),
    ("/palisade.coord.v1.ElectionService/Leader", |it| decoded::<v1::LeaderRequest>(it).serializable),
    ("/palisade.coord.v1.ElectionService/List", |it| decoded::<v1::ListElectionsRequest>(it).serializable),
    ("/palisade.coord.v1.ElectionService/History", |it| decoded::<v1::HistoryRequest>(it).serializable),
    ("/palisade.coord.v1.SessionService/List", |it| decoded::<v1::ListSessionsRequest>(it).serializable),
];

/// The method of a path.
pub(super) fn method(path: &str) -> Method {
    KNOWN.iter().find(|(known, _)| *known == path).map_or(Method::Effect, |(_, method)| *method)
}

/// Whether this request may be served by any node. What cannot be read is the store leader's to refuse.
pub(super) fn is_serializable(path: &str, framed: &[u8]) -> bool {
    // Not compressed; a length, which the message itself tells, too.
    let [0, _, _, _, _, message @ ..] = framed else { return false };
    ANYWHERE.iter().any(|(known, serializable)| *known == path && serializable(message))
}

fn decoded<M: Message + Default>(message: &[u8]) -> M {
    M::decode(message).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use prost_types::FileDescriptorSet;

    use super::*;

    /// A method that streams and is not named would hold one of the places of short calls for as long as it lasts.
    #[test]
    fn every_stream_is_named_and_every_name_is_a_method() {
        let files = FileDescriptorSet::decode(palisade_wire::FILE_DESCRIPTOR_SET).unwrap().file;
        let services = files.iter().filter(|it| it.package() == "palisade.coord.v1").flat_map(|it| &it.service);
        let methods: Vec<_> = services
            .flat_map(|service| service.method.iter().map(move |it| (service.name(), it)))
            .map(|(service, it)| (format!("/palisade.coord.v1.{service}/{}", it.name()), it.server_streaming()))
            .collect();
        for (path, streams) in &methods {
            let named_so = matches!(method(path), Method::Effects | Method::Listen | Method::Own);
            // What a node says of itself.
            let of_itself =
                ["Status", "Health"].iter().any(|own| *path == format!("/palisade.coord.v1.ClusterService/{own}"));
            assert_eq!(named_so, *streams || of_itself, "{path}");
        }
        let exists = |path: &str| methods.iter().any(|(it, _)| it == path);
        for (path, _) in KNOWN {
            assert!(exists(path), "{path} is no method");
        }
        assert!(ANYWHERE.iter().all(|(path, _)| method(path) == Method::Read), "only reads may be served anywhere");
    }

    #[test]
    fn a_read_is_served_anywhere_only_if_it_says_so() {
        let framed = |serializable| {
            let request = v1::LeaderRequest { election: "e".to_owned(), serializable };
            let message = request.encode_to_vec();
            let length = u32::try_from(message.len()).unwrap().to_be_bytes();
            [&[0], &length[..], &message].concat()
        };
        let path = "/palisade.coord.v1.ElectionService/Leader";
        assert!(is_serializable(path, &framed(true)));
        assert!(!is_serializable(path, &framed(false)));
        assert!(!is_serializable("/palisade.coord.v1.ElectionService/Resign", &framed(true)));
        for broken in [&framed(true)[..4], &[0, 0, 0, 0, 1, 0xff], &[1, 0, 0, 0, 0]] {
            assert!(!is_serializable(path, broken), "{broken:?}");
        }
    }
}
