//! Who is at the other end of a loopback connection: the kernel's table of sockets names the socket, and the open files of our own
//! children say whose it is. Needs no privileges. A connection that is nobody's any more stays nobody's: never guessed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

/// The processes of a run by the name under which the network knows them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Who(Arc<Mutex<BTreeMap<u32, String>>>);

impl Who {
    /// `pid` acts under `name` from now on. Its own children (a guardian, say) are not it.
    pub(crate) fn is(&self, pid: u32, name: &str) {
        self.lock().insert(pid, name.to_owned());
    }

    pub(crate) fn gone(&self, pid: u32) {
        self.lock().remove(&pid);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u32, String>> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The name of the process whose socket connects from `peer` to `local`; `None`: of nobody that we know. Reads /proc: blocking.
    pub(crate) fn connects(&self, peer: SocketAddr, local: SocketAddr) -> Option<String> {
        let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
        let socket = format!("socket:[{}]", inode(&table, peer, local)?);
        let known: Vec<_> = self.lock().iter().map(|(pid, name)| (*pid, name.clone())).collect();
        known.into_iter().find(|(pid, _)| holds(*pid, &socket)).map(|(_, name)| name)
    }
}

fn holds(pid: u32, socket: &str) -> bool {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    files.map(|file| std::fs::read_link(file.path())).any(|link| link.is_ok_and(|to| to == Path::new(socket)))
}

/// The inode of the socket that is bound to `local` and connected to `remote`, in the text of /proc/net/tcp.
fn inode(table: &str, local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let (local, remote) = (hex(local)?, hex(remote)?);
    table.lines().skip(1).find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        let found = words.next() == Some(&local) && words.next() == Some(&remote);
        // After the two addresses: state, queues, timer, retransmissions, user, timeout, inode.
        if found { words.nth(6)?.parse().ok() } else { None }
    })
}

/// As the kernel prints it: the address in the order of bytes of this machine, then the port.
fn hex(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(address) = address else { return None };
    Some(format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_of_this_process_is_known_and_one_of_nobody_is_not() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let caller = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        let local = accepted.local_addr().unwrap();
        let who = Who::default();
        assert_eq!(who.connects(peer, local), None);
        who.is(std::process::id(), "client");
        assert_eq!(who.connects(peer, local), Some("client".to_owned()));
        drop(caller);
        who.gone(std::process::id());
        assert_eq!(who.connects(peer, local), None);
    }
}
