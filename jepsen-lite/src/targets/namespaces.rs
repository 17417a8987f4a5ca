//! Network namespaces: every store node has a network stack of its own, and the harness and all clients are on the bridge between.
//! What is cut or lost is lost by the kernel, packet by packet, in the receiver's namespace: connections see real retransmissions.
//! Needs root, `ip` and `nft`. Everything made here is removed when it is dropped.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::net::CLIENT;
use crate::net::faults::{Fault, Faults};
use crate::processes::Spec;
use crate::targets::{Shape, node_name};

const PORT: u16 = 7070;

/// Namespaces that are up.
#[derive(Debug)]
pub(crate) struct Namespaces {
    tag: String,
    /// The third byte of the addresses.
    subnet: u8,
    nodes: usize,
    dir: PathBuf,
}

impl Namespaces {
    pub(crate) fn up(shape: Shape, dir: PathBuf) -> anyhow::Result<Namespaces> {
        if !crate::nemeses::is_root() {
            bail!("--target namespaces needs root");
        }
        let pid = std::process::id();
        let made = Namespaces {
            tag: format!("jl{pid}"),
            subnet: u8::try_from(pid % 250).unwrap_or(0) + 1,
            nodes: shape.nodes,
            dir,
        };
        // The bridge has a namespace of its own: this machine's firewall (an engine's, say) may drop what it would forward.
        let (switch, host) = (made.switch(), made.host_link());
        ip(&format!("netns add {switch}"))?;
        ip(&format!("-n {switch} link add br0 type bridge"))?;
        ip(&format!("-n {switch} link set br0 up"))?;
        ip(&format!("link add {host} type veth peer name host netns {switch}"))?;
        ip(&format!("addr add {}/24 dev {host}", made.host(1)))?;
        ip(&format!("link set {host} up"))?;
        ip(&format!("-n {switch} link set host master br0 up"))?;
        for id in 1..=shape.nodes {
            let space = made.space(id);
            ip(&format!("netns add {space}"))?;
            ip(&format!("-n {switch} link add p{id} type veth peer name eth0 netns {space}"))?;
            ip(&format!("-n {switch} link set p{id} master br0 up"))?;
            ip(&format!("-n {space} addr add {}/24 dev eth0", made.address(id)))?;
            ip(&format!("-n {space} link set eth0 up"))?;
            ip(&format!("-n {space} link set lo up"))?;
        }
        // The first rule set says whether the kernel and `nft` can do it, before anything depends on them.
        made.set(&Faults::none())?;
        Ok(made)
    }

    fn switch(&self) -> String {
        format!("{}s", self.tag)
    }

    fn host_link(&self) -> String {
        format!("{}h", self.tag)
    }

    fn space(&self, id: usize) -> String {
        format!("{}n{id}", self.tag)
    }

    fn host(&self, last: usize) -> String {
        format!("10.211.{}.{last}", self.subnet)
    }

    fn address(&self, id: usize) -> String {
        self.host(10 + id)
    }

    /// Where a node is reached.
    pub(crate) fn node_address(&self, id: usize) -> String {
        format!("{}:{PORT}", self.address(id))
    }

    pub(crate) fn endpoints(&self) -> String {
        (1..=self.nodes).map(|id| self.node_address(id)).collect::<Vec<_>>().join(",")
    }

    /// How a store node is started.
    pub(crate) fn node(&self, id: usize) -> Spec {
        let initial: Vec<_> = (1..=self.nodes).map(|id| format!("{id}={}", self.node_address(id))).collect();
        let data = self.dir.join(node_name(id)).display().to_string();
        let (number, listen, initial) = (id.to_string(), self.node_address(id), initial.join(","));
        let args = ["server", "--id", &number, "--listen", &listen, "--data", &data, "--initial", &initial];
        let wrap = ["ip", "netns", "exec", &self.space(id)].map(str::to_owned).to_vec();
        Spec { wrap, args: args.map(str::to_owned).to_vec(), ..Spec::default() }
    }

    /// What is wrong from now on, instead of what was before.
    pub(crate) fn set(&self, faults: &Faults) -> anyhow::Result<()> {
        let addresses: BTreeMap<String, String> = (1..=self.nodes)
            .map(|id| (node_name(id), self.address(id)))
            .chain([(CLIENT.to_owned(), self.host(1))])
            .collect();
        for id in 1..=self.nodes {
            let rules = rules(&node_name(id), faults, &addresses)?;
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &self.space(id), "nft", "-f", "-"]);
            let mut nft = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().context("running ip and nft")?;
            nft.stdin.take().expect("stdin is piped").write_all(rules.as_bytes())?;
            let output = nft.wait_with_output()?;
            if !output.status.success() {
                bail!("nft in {}: {}", self.space(id), String::from_utf8_lossy(&output.stderr).trim());
            }
        }
        Ok(())
    }
}

/// The whole rule set of one node: what it does not hear.
fn rules(node: &str, faults: &Faults, addresses: &BTreeMap<String, String>) -> anyhow::Result<String> {
    let mut drops = String::new();
    for (from, _, fault) in faults.each().filter(|(_, to, _)| *to == node) {
        let Some(address) = addresses.get(from) else { continue };
        drops += &match fault {
            Fault::Cut => format!("    ip saddr {address} drop\n"),
            Fault::Lossy(percent) => format!("    ip saddr {address} numgen random mod 100 < {percent} drop\n"),
            Fault::Slow(_) => bail!("packets cannot be delayed here"),
        };
    }
    let chain = format!("  chain heard {{\n    type filter hook input priority 0;\n{drops}  }}\n");
    Ok(format!("table inet jepsen\ndelete table inet jepsen\ntable inet jepsen {{\n{chain}}}\n"))
}

fn ip(args: &str) -> anyhow::Result<()> {
    let output = Command::new("ip").args(args.split(' ')).output().context("running ip")?;
    anyhow::ensure!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}

impl Namespaces {
    /// Removes all of it. Again is no harm.
    pub(crate) fn down(&self) {
        for id in 1..=self.nodes {
            let _ = ip(&format!("netns del {}", self.space(id)));
        }
        // The link to this machine goes with its other end.
        let _ = ip(&format!("netns del {}", self.switch()));
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        self.down();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_drops_what_it_is_not_to_hear_and_nothing_else() {
        let addresses = BTreeMap::from([("node-1".to_owned(), "10.0.0.1".to_owned())]);
        let faults = Faults::mute("node-1", &["node-2".to_owned()]);
        let deaf = rules("node-2", &faults, &addresses).unwrap();
        assert!(deaf.contains("ip saddr 10.0.0.1 drop"), "{deaf}");
        assert!(!rules("node-1", &faults, &addresses).unwrap().contains("drop"));
        let slow = Faults::everywhere(
            &["node-1".to_owned(), "node-2".to_owned()],
            Fault::Slow(std::time::Duration::from_millis(1)),
        );
        assert!(rules("node-2", &slow, &addresses).is_err());
    }
}
