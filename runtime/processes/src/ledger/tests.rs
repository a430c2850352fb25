//! A ledger that is crashed, damaged and shared.

use std::io::Write;

use super::*;

const PEER: Peer = Peer { key: [8; 32], state: StateId([9; 16]) };

fn open(directory: &Path) -> Ledger {
    Ledger::open(directory, Disk::default()).unwrap()
}

#[test]
fn a_session_burns_once_per_role() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let (a, b) = (Session([1; 16]), Session([2; 16]));
    assert_eq!(ledger.burn(Party::Client, &a, &PEER).unwrap(), 1);
    assert_eq!(ledger.burn(Party::Server, &a, &PEER).unwrap(), 2);
    ledger.burn(Party::Client, &b, &PEER).unwrap();
    // Another process, or the next start, sees them too.
    let again = open(directory.path());
    assert_eq!(again.id(), ledger.id());
    for (role, session) in [(Party::Client, &a), (Party::Server, &a), (Party::Client, &b)] {
        assert!(matches!(again.burn(role, session, &PEER), Err(LedgerError::Replayed { .. })));
        assert!(again.is_burnt(role, session).unwrap());
    }
    assert!(!again.is_burnt(Party::Server, &b).unwrap());
    again.burn(Party::Server, &b, &PEER).unwrap();
    assert_eq!(again.sessions().unwrap().len(), 4);
    assert_eq!(again.marks(&PEER).unwrap(), Marks { ours: 4, theirs: 0 });
    again.raise(&PEER, Marks { ours: 3, theirs: 7 }).unwrap();
    assert_eq!(ledger.marks(&PEER).unwrap(), Marks { ours: 4, theirs: 7 });
    #[cfg(unix)]
    for file in [ledger.shard(&a), ledger.peer(&PEER), directory.path().join("burnt/id")] {
        assert_eq!(crate::keys::readable_by_others(&File::open(file).unwrap()).unwrap(), None);
    }
    assert_ne!(open(&directory.path().join("other")).id(), ledger.id());
}

/// The process ends after each step of a burn: the session is burnt or was never used, and the next one is entered.
#[test]
fn no_crash_forgets_a_burnt_session() {
    for steps in 0.. {
        let directory = tempfile::tempdir().unwrap();
        open(directory.path()).burn(Party::Client, &Session([1; 16]), &PEER).unwrap();
        let disk = Disk::ending_after(steps);
        let ledger = Ledger::open(directory.path(), disk.clone()).unwrap();
        let burnt = ledger.burn(Party::Client, &Session([2; 16]), &PEER);
        let again = open(directory.path());
        assert!(again.burn(Party::Client, &Session([1; 16]), &PEER).is_err());
        match burnt {
            Ok(mark) => {
                assert!(mark == 2 && again.is_burnt(Party::Client, &Session([2; 16])).unwrap());
                assert!(again.burn(Party::Client, &Session([2; 16]), &PEER).is_err());
            }
            // What was not told as burnt was not used, whether or not it stands there.
            Err(_) => assert!(disk.ended() && again.marks(&PEER).unwrap().ours <= 2),
        }
        assert!(again.burn(Party::Client, &Session([3; 16]), &PEER).unwrap() >= 2);
        if !disk.ended() {
            assert!(steps > 5, "{steps} steps");
            return;
        }
    }
}

#[test]
fn a_record_cut_short_spoils_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let sessions: Vec<Session> = (0..=255).map(|n| Session([n; 16])).collect();
    let shard = ledger.shard(&sessions[0]);
    // Some other that lies in the same file.
    let second = (1u32..).map(|n| Session([n.to_le_bytes(); 4].concat().try_into().unwrap()));
    let second = { second }.find(|session| ledger.shard(session) == shard).unwrap();
    ledger.burn(Party::Client, &sessions[0], &PEER).unwrap();
    for length in 1..RECORD {
        let mut file = OpenOptions::new().append(true).open(&shard).unwrap();
        file.write_all(&record(Party::Server, &sessions[length])[..length]).unwrap();
        assert!(ledger.burn(Party::Client, &sessions[0], &PEER).is_err());
        if length < RECORD - 1 {
            file.set_len(RECORD as u64).unwrap();
        }
    }
    ledger.burn(Party::Client, &second, &PEER).unwrap();
    assert_eq!(std::fs::read(&shard).unwrap().len(), 2 * RECORD);
    assert!(ledger.burn(Party::Client, &second, &PEER).is_err());
}

#[test]
fn what_changed_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let ledger = open(directory.path());
    let session = Session([3; 16]);
    ledger.burn(Party::Client, &session, &PEER).unwrap();
    for path in [ledger.shard(&session), ledger.peer(&PEER), directory.path().join("burnt/id")] {
        let whole = std::fs::read(&path).unwrap();
        for bit in 0..8 * whole.len() {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, changed).unwrap();
            let other = Ledger::open(directory.path(), Disk::default()).and_then(|ledger| {
                ledger.is_burnt(Party::Client, &session)?;
                ledger.marks(&PEER)
            });
            match other {
                Err(LedgerError::Damaged { path: named, .. }) => assert_eq!(named, path, "bit {bit}"),
                other => panic!("bit {bit} of {}: {other:?}", path.display()),
            }
        }
        std::fs::write(&path, whole).unwrap();
    }
    std::fs::remove_file(ledger.shard(&session)).unwrap();
    assert!(matches!(ledger.burn(Party::Client, &session, &PEER), Err(LedgerError::Missing { .. })));
}

#[test]
fn lines_of_earlier_releases_are_taken_over() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ledger");
    let sessions = [1, 2, 3].map(|n| Session([n; 16]));
    let second = format!("server {}", sessions[1]);
    let text = format!("client {}\n{second} {}\nclient 0303", sessions[0], &check(second.as_bytes())[..8]);
    std::fs::write(&path, &text).unwrap();
    let ledger = open(directory.path());
    assert!(!path.exists());
    assert!(ledger.is_burnt(Party::Client, &sessions[0]).unwrap());
    assert!(ledger.burn(Party::Server, &sessions[1], &PEER).is_err());
    ledger.burn(Party::Client, &sessions[2], &PEER).unwrap();
    std::fs::write(&path, text.replace("server", "serves")).unwrap();
    let error = Ledger::open(directory.path(), Disk::default()).err().unwrap();
    assert!(matches!(error, LedgerError::Damaged { record: 1, .. }), "{error}");
    assert!(path.exists());
}

/// Threads here stand for processes: each opens the files anew.
#[test]
fn processes_share_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let burnt = std::thread::scope(|scope| {
        let threads = [(); 4].map(|()| {
            scope.spawn(|| {
                let ledger = open(directory.path());
                (0..8).filter(|n| ledger.burn(Party::Client, &Session([*n; 16]), &PEER).is_ok()).count()
            })
        });
        threads.map(|thread| thread.join().unwrap()).iter().sum::<usize>()
    });
    assert_eq!(burnt, 8, "each session once");
    assert_eq!(open(directory.path()).marks(&PEER).unwrap().ours, 8);
}
