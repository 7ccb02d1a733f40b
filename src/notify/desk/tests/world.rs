//! A log of transitions, a receiver that fails, silences, and processes that end at any moment, by random seeds.
//!
//! A process that ends loses all but what it had stored: a position in the log and its memory. The next one begins
//! with the alerts that fired at that position, computed here from the log, and is told again what came behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::*;
use crate::notify::receipt::{Position, Receipts};

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// What may go wrong.
#[derive(Clone, Copy)]
struct Trouble {
    crashes: bool,
    /// Positions and memory are stored right before each.
    orderly: bool,
    /// Answers get lost: what was taken is sent again.
    lost: bool,
    silences: bool,
    retractions: bool,
    /// Breaches of the past come to light.
    past: bool,
}

/// Alert, status, event time and start of the breach: what a receiver tells transitions apart by.
type Told = (u128, Status, TimeNs, TimeNs);

/// Behind everything.
const END: Position = Position { epoch: u64::MAX, ahead: BTreeMap::new() };

struct Process {
    desk: Desk,
    receipts: Arc<Receipts>,
    counters: Arc<NotifyCounters>,
    flying: Vec<Batch>,
}

struct World {
    dice: Dice,
    config: DeskConfig,
    to_alertmanager: bool,
    silences: Silences,
    now_s: i64,
    /// Transitions by epoch and place.
    log: Vec<((u64, u32), Notification)>,
    process: Process,
    stored: (Position, Memory),
    /// What the receiver took, news and repeats, in order.
    taken: Vec<(Told, bool)>,
    crashes: usize,
}

impl World {
    fn new(seed: u64, trouble: Trouble) -> World {
        let mut dice = Dice(seed);
        let mut pick = |choices: &[i64]| choices[dice.below(choices.len() as u64) as usize];
        let mut config = grouped(pick(&[0, 0, 3]), pick(&[0, 0, 5]), pick(&[0, 40]));
        if pick(&[0, 1]) == 0 {
            config.group_by.clear();
        }
        config.batch_len_max = pick(&[1, 3, 64]) as usize;
        config.in_flight_max = pick(&[1, 1, 3]) as usize;
        config.resend_ns = 20 * SECOND;
        let to_alertmanager = pick(&[0, 1]) == 1;
        let some = (0..4).map(|n| silence("*", 10 + n * 60, 10 + n * 60 + pick(&[5, 20, 90])));
        let some: Vec<Silence> = some.collect();
        let silences = Silences::new(if trouble.silences { some } else { Vec::new() }, Vec::new(), 9);
        let process = Process::new(&config, to_alertmanager, Position::default());
        let (log, taken, stored) = Default::default();
        World { dice, config, to_alertmanager, silences, now_s: 0, log, process, stored, taken, crashes: 0 }
    }

    /// The alerts that fire at a position.
    fn firing(&self, position: &Position) -> BTreeMap<u128, Notification> {
        let mut breaches = BTreeMap::new();
        let is_settled = |(epoch, place): &(u64, u32)| {
            *epoch <= position.epoch || position.ahead.get(epoch).is_some_and(|places| places.contains(place))
        };
        for (_, notification) in self.log.iter().filter(|(place, _)| is_settled(place)) {
            match notification.status {
                FIRING => breaches.insert((notification.id, notification.started_ns), notification.clone()),
                _ => breaches.remove(&(notification.id, notification.started_ns)),
            };
        }
        // Of an alert the newest.
        breaches.into_iter().map(|((id, _), notification)| (id, notification)).collect()
    }

    fn epoch(&self) -> u64 {
        self.log.last().map_or(0, |((epoch, _), _)| *epoch)
    }

    /// The next transition of some alert, or of several in one epoch.
    fn happen(&mut self, trouble: Trouble) {
        let epoch = self.epoch() + 1 + self.dice.below(2);
        for place in 0..=self.dice.below(2) as u32 {
            let id = 1 + u128::from(self.dice.below(6));
            let firing = self.firing(&END);
            if let Some(begun) = firing.get(&id).filter(|_| trouble.past && self.dice.below(3) == 0) {
                self.come_to_light(epoch, begun.clone());
                break;
            }
            let status = match (firing.contains_key(&id), trouble.retractions && self.dice.below(3) == 0) {
                (false, _) => FIRING,
                (true, false) => RESOLVED,
                (true, true) => RETRACTED,
            };
            // Event times are all different.
            let time_s = self.log.len() as i64;
            let started_ns = firing.get(&id).map_or(at(time_s - 1), |begun| begun.started_ns);
            let notification = Notification { started_ns, ..said(id, status, time_s) };
            self.log.push(((epoch, place), notification.clone()));
            self.process.tell((epoch, place), notification, self.now_s);
        }
        self.process.receipts.handed_over(epoch);
    }

    /// A breach before the one that lasts, both its ends.
    fn come_to_light(&mut self, epoch: u64, begun: Notification) {
        let len = self.log.len() as i64;
        let started_ns = begun.started_ns - SECOND / 2 - len;
        for (place, status) in (10..).zip([FIRING, RESOLVED]) {
            let time_ns = started_ns + i64::from(place);
            let notification = Notification { status, started_ns, time_ns, ..begun.clone() };
            self.log.push(((epoch, place), notification.clone()));
            self.process.tell((epoch, place), notification, self.now_s);
        }
    }

    /// Something goes on its way, or something on its way comes to an end.
    fn deliver(&mut self, trouble: Trouble, always: bool) {
        if let Some(batch) = self.process.desk.next(at(self.now_s), &self.silences) {
            self.check_silences(&batch);
            self.process.flying.push(batch);
        }
        if self.process.flying.is_empty() || (!always && self.dice.below(2) == 0) {
            return;
        }
        let one = self.dice.below(self.process.flying.len() as u64) as usize;
        let is_taken = always || self.dice.below(3) > 0;
        let is_lost = !always && trouble.lost && self.dice.below(4) == 0;
        if is_taken {
            let batch = &self.process.flying[one];
            let told = |entry: &Entry| {
                let alert = &entry.notification;
                ((alert.id, alert.status, alert.time_ns, alert.started_ns), batch.is_repeat)
            };
            self.taken.extend(batch.entries.iter().map(told));
        }
        // What failed, or seems to have, is tried again; a repeat is let be.
        let is_repeat = self.process.flying[one].is_repeat;
        if (!is_taken || is_lost) && !is_repeat {
            return;
        }
        let batch = self.process.flying.remove(one);
        let delivered = is_taken && !is_lost;
        let outcome = if delivered { Outcome::Delivered } else { Outcome::GivenUp };
        let group = batch.group().cloned();
        self.process.desk.settle(batch.entries, batch.is_repeat, outcome, at(self.now_s));
        self.process.desk.landed(group, delivered, at(self.now_s));
    }

    fn check_silences(&self, batch: &Batch) {
        for entry in batch.entries.iter().filter(|entry| entry.notification.status == FIRING) {
            let silenced = self.silences.covers(&entry.notification.subject(), at(self.now_s));
            assert!(!silenced || (batch.is_repeat && self.to_alertmanager), "{entry:?} is silenced");
        }
    }

    fn store(&mut self) {
        let position = self.process.receipts.position();
        self.stored = (position, self.process.desk.memory(at(self.now_s)));
    }

    fn crash(&mut self, trouble: Trouble) {
        if trouble.orderly {
            self.process.flying.is_empty().then(|| self.store());
            if !self.process.flying.is_empty() {
                return;
            }
        }
        self.crashes += 1;
        let (position, memory) = self.stored.clone();
        let (settled, firing) = (position.epoch, self.firing(&position));
        self.process = Process::new(&self.config, self.to_alertmanager, position);
        self.process.desk.resume(firing.into_values(), &memory, &self.silences, at(self.now_s));
        for (place, notification) in self.log.iter().filter(|((epoch, _), _)| *epoch > settled) {
            self.process.tell_with(*place, notification.clone(), self.now_s, Desk::take_again);
        }
        self.process.receipts.handed_over(self.epoch());
    }

    /// Everything is delivered that will be.
    fn come_to_rest(&mut self, trouble: Trouble) {
        self.now_s += 500;
        for _ in 0..400 {
            self.now_s += 1;
            for _ in 0..8 {
                self.deliver(trouble, true);
            }
        }
        assert_eq!(self.process.desk.waiting(), 0);
        assert_eq!(self.process.receipts.settled(), self.epoch(), "everything is settled");
        assert_balance(&self.process.counters, 0);
    }

    /// What was told as news, each once, in the order in which it first was.
    fn news(&self) -> Vec<Told> {
        let mut seen = BTreeSet::new();
        let news = self.taken.iter().filter(|(_, is_repeat)| !is_repeat).map(|(told, _)| *told);
        news.filter(|(id, status, time_ns, _)| seen.insert((*id, status.as_str(), *time_ns))).collect()
    }

    /// What the receiver takes to fire: what it was told last of the newest breach of each alert.
    fn believed(&self) -> BTreeSet<u128> {
        let mut lasting: BTreeMap<u128, TimeNs> = BTreeMap::new();
        for ((id, status, _, started_ns), _) in &self.taken {
            let newest_ns = lasting.get(id).copied().unwrap_or(TimeNs::MIN);
            // An Alertmanager knows no breaches.
            match status {
                _ if !self.to_alertmanager && *started_ns < newest_ns => {}
                Status::Firing => drop(lasting.insert(*id, *started_ns)),
                Status::Resolved | Status::Retracted => drop(lasting.remove(id)),
            }
        }
        lasting.into_keys().collect()
    }
}

impl Process {
    fn new(config: &DeskConfig, to_alertmanager: bool, position: Position) -> Process {
        let counters = Arc::new(NotifyCounters::default());
        let desk = Desk::new(config.clone(), to_alertmanager, counters.clone());
        Process { desk, receipts: Receipts::after(position), counters, flying: Vec::new() }
    }

    fn tell(&mut self, place: (u64, u32), notification: Notification, now_s: i64) {
        self.tell_with(place, notification, now_s, Desk::take);
    }

    fn tell_with(
        &mut self,
        (epoch, place): (u64, u32),
        mut notification: Notification,
        now_s: i64,
        take: fn(&mut Desk, Notification, TimeNs),
    ) {
        if let Some(receipt) = self.receipts.issue(epoch, place) {
            notification.receipt = receipt;
            take(&mut self.desk, notification, at(now_s));
        }
    }
}

fn lived(seed: u64, trouble: Trouble) -> World {
    let mut world = World::new(seed, trouble);
    for _ in 0..150 {
        match world.dice.below(10) {
            0..=1 => world.happen(trouble),
            2..=3 => world.now_s += world.dice.below(6) as i64,
            4 => world.store(),
            5 if trouble.crashes && world.dice.below(4) == 0 => world.crash(trouble),
            _ => world.deliver(trouble, false),
        }
    }
    world.come_to_rest(trouble);
    world
}

const CALM: Trouble =
    Trouble { crashes: false, orderly: false, lost: false, silences: false, retractions: false, past: false };
const SEEDS: u64 = 400;

fn of(log: &[((u64, u32), Notification)], id: u128) -> Vec<Told> {
    let of_alert = log.iter().filter(|(_, n)| n.id == id);
    of_alert.map(|(_, n)| (n.id, n.status, n.time_ns, n.started_ns)).collect()
}

#[test]
fn every_transition_arrives_once_and_in_order() {
    for trouble in [CALM, Trouble { crashes: true, orderly: true, ..CALM }] {
        for seed in 0..SEEDS {
            let world = lived(seed, trouble);
            let news = world.taken.iter().filter(|(_, is_repeat)| !is_repeat);
            let news: Vec<Told> = news.map(|(told, _)| *told).collect();
            assert_eq!(news.len(), world.log.len(), "seed {seed}: each once");
            for id in 1..=6 {
                let told: Vec<Told> = news.iter().copied().filter(|(of, ..)| *of == id).collect();
                assert_eq!(told, of(&world.log, id), "seed {seed}, alert {id}");
            }
        }
    }
}

#[test]
fn after_crashes_and_lost_answers_every_transition_has_arrived_and_no_other() {
    let trouble = Trouble { crashes: true, lost: true, ..CALM };
    let mut crashes = 0;
    for seed in 0..SEEDS {
        let world = lived(seed, trouble);
        crashes += world.crashes;
        let news = world.news();
        for id in 1..=6 {
            let told: Vec<Told> = news.iter().copied().filter(|(of, ..)| *of == id).collect();
            assert_eq!(told, of(&world.log, id), "seed {seed}, alert {id}");
        }
        let fires: BTreeSet<u128> = world.firing(&END).into_keys().collect();
        assert_eq!(world.believed(), fires, "seed {seed}");
    }
    assert!(crashes > SEEDS as usize, "{crashes}");
}

#[test]
fn in_the_end_the_receiver_knows_what_fires() {
    for (lost, past) in [(false, false), (true, false), (true, true)] {
        let trouble = Trouble { crashes: true, lost, silences: true, retractions: true, past, ..CALM };
        let mut silenced = 0;
        for seed in 0..SEEDS {
            let world = lived(seed, trouble);
            silenced += world.process.counters.silenced.load(std::sync::atomic::Ordering::Relaxed);
            let logged: BTreeSet<(u128, &str, TimeNs)> =
                world.log.iter().map(|(_, n)| (n.id, n.status.as_str(), n.time_ns)).collect();
            for ((id, status, time_ns, _), _) in &world.taken {
                assert!(logged.contains(&(*id, status.as_str(), *time_ns)), "seed {seed}: {id} {status:?}");
            }
            let fires: BTreeSet<u128> = world.firing(&END).into_keys().collect();
            assert_eq!(world.believed(), fires, "seed {seed}");
            assert_eq!(world.process.desk.held_len(), 0, "seed {seed}");
        }
        assert!(silenced > SEEDS / 4, "{silenced}");
    }
}
