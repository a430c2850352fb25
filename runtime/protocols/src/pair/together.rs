//! Instructions that do not wait for one another, made in one conversation: their transfers of the same turn go in one message.
//!
//! Why       A step has hundreds of instructions, and what one takes is a dozen messages one after another. Together they take as
//!           many as the longest.
//! How       Each is a job with a thread of its own, which asks for its transfers and waits. When all jobs that are not done
//!           have asked, what they asked for is exchanged, told and heard, in their order. Both parties have the same jobs, and a
//!           job asks for the same on both sides, so the order is one.
//! Errors    The first that the engine has; all jobs end with it.

use super::{Bits, Exchange, Factors, Group, Network, PairError, Transfers};
use crate::weights::Integers;
use ir::{Party, Width};
use kernels::ring::{Buffer, Tensor};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// What makes the material of an instruction: with transfers, and a place for the server's part.
pub(super) type Job<'j, T> = Box<dyn FnOnce(&mut dyn Transfers, &mut Vec<u8>) -> Result<T, PairError> + Send + 'j>;

/// What a job asks for.
enum Request {
    Exchange(Vec<Owned>),
    Switches(Vec<OwnedNetwork>),
    Products(Vec<OwnedFactors>),
    Tell(Buffer, Width),
    Hear(usize, Width),
}

/// An [`Exchange`] with its numbers; choices are their low bits.
struct Owned {
    group: Group,
    choices: Buffer,
    held: Buffer,
    row: usize,
    width: Width,
}

impl Owned {
    fn as_exchange(&self) -> Exchange<'_> {
        let Owned { group, choices, held, row, width } = self;
        Exchange { group: *group, choices: Bits::of(choices, 0), held, row: *row, width: *width }
    }
}

/// A [`Network`] with its numbers.
struct OwnedNetwork {
    wires: usize,
    width: Width,
    bits: Buffer,
    numbers: Buffer,
}

impl OwnedNetwork {
    fn as_network(&self) -> Network<'_> {
        let OwnedNetwork { wires, width, bits, numbers } = self;
        Network { wires: *wires, width: *width, bits, numbers }
    }
}

/// A [`Factors`] with its numbers.
struct OwnedFactors {
    count: usize,
    sizes: [usize; 3],
    width: Width,
    own: Buffer,
}

enum Reply {
    Exchanged(Vec<[Buffer; 2]>),
    Switched(Vec<Buffer>),
    Products(Vec<Buffer>),
    Told,
    Heard(Buffer),
}

/// What a job tells, with its number.
enum Event<T> {
    Asks(Request),
    Done(Result<(T, Vec<u8>), PairError>),
}

/// A job's end of the conversation.
struct Remote<'r> {
    party: Party,
    ask: &'r dyn Fn(Request) -> Option<Reply>,
}

impl Remote<'_> {
    fn ask(&self, request: Request) -> Result<Reply, PairError> {
        (self.ask)(request).ok_or_else(|| PairError::Engine("the conversation ended".into()))
    }
}

impl Transfers for Remote<'_> {
    fn party(&self) -> Party {
        self.party
    }

    fn exchange(&mut self, asked: &[Exchange]) -> Result<Vec<[Buffer; 2]>, PairError> {
        let own = |ask: &Exchange| Owned {
            group: ask.group,
            choices: ask.choices.iter().collect(),
            held: Buffer::from(ask.held.to_vec()),
            row: ask.row,
            width: ask.width,
        };
        match self.ask(Request::Exchange(asked.iter().map(own).collect()))? {
            Reply::Exchanged(shares) => Ok(shares),
            _ => unreachable!("a reply of the kind that was asked for"),
        }
    }

    fn switches(&mut self, asked: &[Network]) -> Result<Vec<Buffer>, PairError> {
        let own = |ask: &Network| OwnedNetwork {
            wires: ask.wires,
            width: ask.width,
            bits: Buffer::from(ask.bits.to_vec()),
            numbers: Buffer::from(ask.numbers.to_vec()),
        };
        match self.ask(Request::Switches(asked.iter().map(own).collect()))? {
            Reply::Switched(shares) => Ok(shares),
            _ => unreachable!("a reply of the kind that was asked for"),
        }
    }

    fn client_product(&mut self, _: &Tensor, _: usize, _: Width) -> Result<Buffer, PairError> {
        unreachable!("products are made before their instructions")
    }

    fn server_product(&mut self, _: Integers, _: [usize; 3], _: Width) -> Result<Buffer, PairError> {
        unreachable!("products are made before their instructions")
    }

    fn private_products(&mut self, asked: &[Factors]) -> Result<Vec<Buffer>, PairError> {
        let own = |ask: &Factors| OwnedFactors {
            count: ask.count,
            sizes: ask.sizes,
            width: ask.width,
            own: Buffer::from(ask.own.to_vec()),
        };
        match self.ask(Request::Products(asked.iter().map(own).collect()))? {
            Reply::Products(shares) => Ok(shares),
            _ => unreachable!("a reply of the kind that was asked for"),
        }
    }

    fn tell(&mut self, numbers: &[u64], width: Width) -> Result<(), PairError> {
        self.ask(Request::Tell(Buffer::from(numbers.to_vec()), width)).map(drop)
    }

    fn hear(&mut self, count: usize, width: Width) -> Result<Buffer, PairError> {
        match self.ask(Request::Hear(count, width))? {
            Reply::Heard(numbers) => Ok(numbers),
            _ => unreachable!("a reply of the kind that was asked for"),
        }
    }
}

/// Does all jobs; gives what each made, and its bytes for the server.
pub(super) fn run<T: Send>(pair: &mut dyn Transfers, jobs: Vec<Job<'_, T>>) -> Result<Vec<(T, Vec<u8>)>, PairError> {
    let party = pair.party();
    let (tell, told) = channel();
    thread::scope(|scope| {
        let mut ways = Vec::new();
        for (number, job) in jobs.into_iter().enumerate() {
            let (reply, replies) = channel();
            let tell: Sender<(usize, Event<T>)> = tell.clone();
            ways.push(reply);
            let work = move || {
                let ask = |request| {
                    // Nobody listens any more where the engine has failed.
                    let _ = tell.send((number, Event::Asks(request)));
                    Receiver::recv(&replies).ok()
                };
                let mut made = Vec::new();
                let done = job(&mut Remote { party, ask: &ask }, &mut made);
                let _ = tell.send((number, Event::Done(done.map(|value| (value, made)))));
            };
            // Where the system refuses a thread, the jobs before end with their ways.
            thread::Builder::new().spawn_scoped(scope, work)?;
        }
        drop(tell);
        converse(pair, ways, &told)
    })
}

/// Turn by turn, until all jobs are done.
fn converse<T>(
    pair: &mut dyn Transfers,
    ways: Vec<Sender<Reply>>,
    told: &Receiver<(usize, Event<T>)>,
) -> Result<Vec<(T, Vec<u8>)>, PairError> {
    let mut done: Vec<Option<(T, Vec<u8>)>> = ways.iter().map(|_| None).collect();
    let mut live = ways.len();
    while live > 0 {
        let mut asked: Vec<Option<Request>> = ways.iter().map(|_| None).collect();
        let waiting = live;
        for _ in 0..waiting {
            match told.recv().expect("a job tells that it is done") {
                (number, Event::Asks(request)) => asked[number] = Some(request),
                (number, Event::Done(made)) => {
                    done[number] = Some(made?);
                    live -= 1;
                }
            }
        }
        for (number, reply) in turn(pair, asked)? {
            // A job that is gone has said why.
            let _ = ways[number].send(reply);
        }
    }
    Ok(done.into_iter().map(|made| made.expect("all are done")).collect())
}

/// Does what was asked for in one turn: products, networks, transfers, then what is told, then what is heard.
fn turn(pair: &mut dyn Transfers, asked: Vec<Option<Request>>) -> Result<Vec<(usize, Reply)>, PairError> {
    let mut replies = Vec::new();
    let factors = asked.iter().flatten().filter_map(|request| match request {
        Request::Products(list) => Some(list),
        _ => None,
    });
    let factors: Vec<Factors> = factors
        .flatten()
        .map(|&OwnedFactors { count, sizes, width, ref own }| Factors { count, sizes, width, own })
        .collect();
    let mut products = match factors.is_empty() {
        true => Vec::new(),
        false => pair.private_products(&factors)?,
    }
    .into_iter();
    for (number, request) in asked.iter().enumerate() {
        if let Some(Request::Products(list)) = request {
            replies.push((number, Reply::Products(products.by_ref().take(list.len()).collect())));
        }
    }
    for (number, request) in asked.iter().enumerate() {
        if let Some(Request::Switches(list)) = request {
            let list: Vec<Network> = list.iter().map(OwnedNetwork::as_network).collect();
            replies.push((number, Reply::Switched(pair.switches(&list)?)));
        }
    }
    let exchanges = asked.iter().flatten().filter_map(|request| match request {
        Request::Exchange(list) => Some(list),
        _ => None,
    });
    let list: Vec<Exchange> = exchanges.flatten().map(Owned::as_exchange).collect();
    let mut shares = match list.is_empty() {
        true => Vec::new(),
        false => pair.exchange(&list)?,
    }
    .into_iter();
    for (number, request) in asked.iter().enumerate() {
        match request {
            Some(Request::Exchange(list)) => {
                replies.push((number, Reply::Exchanged(shares.by_ref().take(list.len()).collect())));
            }
            Some(Request::Tell(numbers, width)) => {
                pair.tell(numbers, *width)?;
                replies.push((number, Reply::Told));
            }
            _ => {}
        }
    }
    for (number, request) in asked.iter().enumerate() {
        if let Some(Request::Hear(count, width)) = request {
            replies.push((number, Reply::Heard(pair.hear(*count, *width)?)));
        }
    }
    Ok(replies)
}
