//! Clocks of a process that the harness bends: a small C library, built here with `cc`, is preloaded into the node and answers
//! `clock_gettime` by a file. Works on binaries that are linked dynamically only.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::time::{ClockId, clock_gettime};

const SOURCE: &str = include_str!("clock_control.c");

/// The library, and where the control files lie.
#[derive(Clone, Debug)]
pub(crate) struct ClockControl {
    library: PathBuf,
    dir: PathBuf,
}

/// How a process's clocks are bent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bend {
    wall_ns: i64,
    base_ns: i64,
    ahead_ns: i64,
    rate_ppm: i64,
}

fn monotonic() -> i64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    i64::try_from(now.as_nanos()).unwrap_or(i64::MAX)
}

impl Bend {
    /// The wall clock is moved by so much; what the other clocks do stays.
    pub(crate) fn wall(self, by_ms: i64) -> Bend {
        Bend { wall_ns: by_ms.saturating_mul(1_000_000), ..self }
    }

    /// From now on the other clocks run so many millionths too fast.
    pub(crate) fn rate(self, rate_ppm: i64) -> Bend {
        let now = monotonic();
        let ahead_ns = self.ahead_ns + (now - self.base_ns) / 1000 * self.rate_ppm / 1000;
        Bend { base_ns: now, ahead_ns, rate_ppm, ..self }
    }
}

impl ClockControl {
    /// Builds the library in the run's folder.
    pub(crate) fn build(dir: &Path, palisade: &Path) -> anyhow::Result<ClockControl> {
        let binary = std::fs::read(palisade)?;
        let dynamic = binary.windows(9).any(|window| window == b"ld-linux-");
        ensure!(
            dynamic,
            "clocks can be bent in a dynamically linked binary only, and {} is static",
            palisade.display()
        );
        let (source, library) = (dir.join("clock_control.c"), dir.join("clock_control.so"));
        std::fs::write(&source, SOURCE)?;
        let built = std::process::Command::new("cc")
            .args(["-O2", "-shared", "-fPIC", "-o"])
            .args([&library, &source])
            .output()
            .context("running cc")?;
        ensure!(built.status.success(), "cc: {}", String::from_utf8_lossy(&built.stderr));
        Ok(ClockControl { library, dir: dir.to_owned() })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.clock"))
    }

    /// What a process needs in its environment; its clocks are straight until they are bent.
    pub(crate) fn environment(&self, name: &str) -> anyhow::Result<Vec<(String, String)>> {
        let file = self.file(name);
        if !file.exists() {
            self.bend(name, Bend::default())?;
        }
        let variable = |name: &str, path: &Path| (name.to_owned(), path.display().to_string());
        Ok(vec![variable("LD_PRELOAD", &self.library), variable("JEPSEN_LITE_CLOCK", &file)])
    }

    /// Bends the clocks of a process from now on.
    pub(crate) fn bend(&self, name: &str, bend: Bend) -> anyhow::Result<()> {
        let file = File::options().create(true).truncate(false).write(true).read(true).open(self.file(name))?;
        file.set_len(48)?;
        let mut last = [0; 8];
        file.read_exact_at(&mut last, 0)?;
        let number = (u64::from_ne_bytes(last) + 1).to_ne_bytes();
        // Whoever reads between the first number and the last reads again.
        file.write_all_at(&number, 0)?;
        for (at, value) in (1..).zip([bend.wall_ns, bend.base_ns, bend.ahead_ns, bend.rate_ppm]) {
            file.write_all_at(&value.to_ne_bytes(), at * 8)?;
        }
        file.write_all_at(&number, 40)?;
        Ok(())
    }
}
