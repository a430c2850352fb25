//! State directories that come back from a backup: what both kept is refused, and no mask goes out twice.
//!
//! Told by what a text takes: masks follow from the seeds of its session, which are the stock's if it takes one, and the system's, drawn for
//! it, if it does not. So a text after a restore must take no stock, and the ledgers must have no session twice.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ir::Party;
use ir::pair::Maker;
use processes::client::Client;
use processes::{Os, Plan, RunError};
use text::{Cancel, Model, Noise, PrivateModel};

use crate::common::{World, burnt, order};

const TIMEOUT: Duration = Duration::from_secs(20);

const PROMPT: [u32; 2] = [1, 2];

const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

/// How a directory is put back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// `cp -a`.
    Copied,
    /// The copy gets the name.
    Renamed,
    /// `cp -a`, of the stocks alone, over what is there.
    Stocks,
}

/// A client of a world, whose stocks and texts are made and counted.
struct Scene {
    world: World,
    dealer: SocketAddr,
    server: SocketAddr,
}

impl Scene {
    fn new() -> Scene {
        let mut world = World::new(TIMEOUT);
        let dealer = world.dealer();
        let server = world.server(dealer, 2);
        Scene { world, dealer, server }
    }

    fn client(&self) -> Client {
        Client { entropy: Box::new(Os), ..self.world.party(self.server, self.dealer, 1) }
    }

    fn prepare(&self, tokens: usize) -> Result<(), RunError> {
        let client = self.client();
        let plan = Plan::of(&client.loaded.module).unwrap();
        client.prepare(&self.world.net, &plan, order(4, tokens), &mut |_| true).map(drop)
    }

    /// A text of two tokens, and whether it took a stock; without a dealer it needs one.
    fn text(&self, dealer: SocketAddr) -> Result<bool, String> {
        let client = Client { entropy: Box::new(Os), ..self.world.party(self.server, dealer, 1) };
        let model = PrivateModel::new(client, &self.world.net).unwrap();
        let told = |error| processes::chain(&error);
        let mut session = model.begin(&PROMPT, Noise::greedy(), &Cancel::default()).map_err(told)?;
        let steps = [(); 2].map(|()| session.next(None));
        let mut took = false;
        for step in steps {
            took = step.map_err(told)?.material_tokens.is_some();
        }
        Ok(took)
    }

    fn left(&self) -> [u64; 2] {
        [Party::Client, Party::Server].map(|party| self.world.stocks(party, Maker::Dealer).tokens())
    }

    fn back_up(&self, names: &[&str], round: usize) {
        names.iter().for_each(|name| copy(&self.at(name), &self.at(&format!("backup{round}-{name}"))));
    }

    fn put_back(&self, names: &[&str], round: usize, way: Way) {
        for name in names {
            let (backup, place) = (self.at(&format!("backup{round}-{name}")), self.at(name));
            if way == Way::Stocks {
                std::fs::remove_dir_all(place.join("stock")).unwrap();
                copy(&backup.join("stock"), &place.join("stock"));
                continue;
            }
            std::fs::remove_dir_all(&place).unwrap();
            match way {
                Way::Copied => copy(&backup, &place),
                _ => std::fs::rename(&backup, &place).unwrap(),
            }
        }
    }

    fn at(&self, name: &str) -> std::path::PathBuf {
        self.world.folder.path().join(name)
    }
}

fn copy(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// A stock, a backup, a text that takes the stock, the backup put back, and texts again: none takes a stock that was used, on whichever side it came
/// back.
fn restores(rounds: usize) {
    let (scene, mut sessions) = (Scene::new(), BTreeSet::new());
    let whose: [&[&str]; 3] = [&["client"], &["server"], &["client", "server"]];
    let ways = [Way::Copied, Way::Renamed, Way::Stocks];
    let mut refused = 0;
    for round in 0..rounds {
        let (names, way) = (whose[round % 3], ways[round / 3 % 3]);
        scene.prepare(2).unwrap();
        assert_eq!(scene.left(), [2, 2], "round {round}");
        scene.back_up(names, round);
        assert_eq!(scene.text(NOWHERE), Ok(true), "round {round}");
        let used: BTreeSet<String> = ["client", "server"].iter().flat_map(|name| burnt(&scene.at(name))).collect();
        scene.put_back(names, round, way);
        // The first may be told that a directory is older than what the other side remembers.
        let again = [(); 2].map(|()| scene.text(scene.dealer));
        for text in &again {
            match text {
                Ok(took) => assert!(!took, "round {round}: {names:?} {way:?}: a stock was taken twice"),
                Err(error) => {
                    assert!(error.contains("restored") || error.contains("used before"), "round {round}: {error}");
                    refused += 1;
                }
            }
        }
        assert_eq!(again[1], Ok(false), "round {round}: {names:?} {way:?}: it goes on");
        sessions.extend(used);
        // Making goes on, too, and what is made now is used.
        for name in ["client", "server"] {
            let folder = scene.at(name).join("stock");
            std::fs::remove_dir_all(folder).unwrap();
        }
    }
    assert!(refused > 0 || rounds < 9, "counts tell some restores");
    assert!(sessions.len() >= 2 * rounds);
}

/// A longer version for the record: `SSVM_RESTORES=100 cargo test -p tests --test generate no_stock_is_used_again`.
#[test]
fn no_stock_is_used_again_after_a_restore() {
    restores(std::env::var("SSVM_RESTORES").map_or(9, |rounds| rounds.parse().unwrap()));
}
