//! The desk in virtual time.
//!
//! # Layout
//! - this file: each promise by an example
//! - `world`: a receiver that fails, a log, and processes that end at any moment, at random

mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use operators::series::Target;

use super::*;
use crate::notify::silence::{Maintenance, Silence};
use crate::notify::tests::{NOON_NS, notification};

/// A desk with its counters and a clock in seconds after noon.
struct Table {
    desk: Desk,
    counters: Arc<NotifyCounters>,
    silences: Silences,
    /// When the last breach of each alert began, in seconds after noon.
    begun: BTreeMap<u128, i64>,
}

impl Table {
    fn new(config: DeskConfig) -> Table {
        let counters = Arc::new(NotifyCounters::default());
        let desk = Desk::new(config, false, counters.clone());
        Table { desk, counters, silences: Silences::default(), begun: BTreeMap::new() }
    }

    fn to_alertmanager(config: DeskConfig) -> Table {
        let mut table = Table::new(config.clone());
        table.desk = Desk::new(config, true, table.counters.clone());
        table
    }

    fn take(&mut self, now_s: i64, id: u128, status: Status) {
        if status == FIRING {
            self.begun.insert(id, now_s - 10);
        }
        let started_s = self.begun.get(&id).copied().unwrap_or(now_s);
        self.desk.take(of_breach(id, status, started_s, now_s), at(now_s));
    }

    /// What goes out at a moment and is delivered: ids and statuses, batch by batch.
    fn out(&mut self, now_s: i64) -> Vec<Vec<(u128, Status)>> {
        self.out_with(now_s, Outcome::Delivered)
    }

    fn out_with(&mut self, now_s: i64, outcome: Outcome) -> Vec<Vec<(u128, Status)>> {
        let mut batches = Vec::new();
        while let Some(batch) = self.desk.next(at(now_s), &self.silences) {
            let shown = |entry: &Entry| (entry.notification.id, entry.notification.status);
            batches.push(batch.entries.iter().map(shown).collect());
            let (group, is_repeat) = (batch.group().cloned(), batch.is_repeat);
            self.desk.settle(batch.entries, is_repeat, outcome, at(now_s));
            self.desk.landed(group, outcome == Outcome::Delivered, at(now_s));
        }
        batches
    }

    fn counted(&self, name: &str) -> u64 {
        let counters = self.counters.snapshot();
        counters.iter().find(|(counter, _)| *counter == name).unwrap_or_else(|| panic!("{name}")).1
    }

    /// Every transition that was put in has ended in one way, or still waits.
    #[track_caller]
    fn assert_balance(&self) {
        assert_balance(&self.counters, self.desk.waiting());
    }
}

#[track_caller]
fn assert_balance(counters: &NotifyCounters, waiting: usize) {
    let counter = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let ended = [
        &counters.delivered,
        &counters.superseded,
        &counters.turned_away,
        &counters.rejected,
        &counters.given_up,
        &counters.unwanted,
        &counters.silenced,
        &counters.duplicate,
    ];
    let ended: u64 = ended.into_iter().map(counter).sum();
    assert_eq!(counter(&counters.notified), ended + waiting as u64, "{counters:?}");
}

fn at(now_s: i64) -> TimeNs {
    NOON_NS + now_s * SECOND
}

/// A transition of the breach that began at a moment.
fn of_breach(id: u128, status: Status, started_s: i64, time_s: i64) -> Notification {
    Notification { started_ns: at(started_s), ..said(id, status, time_s) }
}

fn said(id: u128, status: Status, time_s: i64) -> Notification {
    let target = Arc::new(Target::new("s", [("host", if id.is_multiple_of(2) { "even" } else { "odd" })]));
    let started_ns = if status == Status::Firing { at(time_s - 10) } else { at(-10) };
    Notification { target, status, time_ns: at(time_s), started_ns, ..notification(id) }
}

const FIRING: Status = Status::Firing;
const RESOLVED: Status = Status::Resolved;
const RETRACTED: Status = Status::Retracted;

fn grouped(wait_s: i64, interval_s: i64, repeat_s: i64) -> DeskConfig {
    DeskConfig {
        group_by: vec![Label::Tag("host".into())],
        wait_ns: wait_s * SECOND,
        interval_ns: interval_s * SECOND,
        repeat_ns: repeat_s * SECOND,
        ..DeskConfig::default()
    }
}

#[test]
fn by_default_everything_goes_at_once_and_once() {
    let mut table = Table::new(DeskConfig::default());
    table.take(0, 1, FIRING);
    table.take(0, 2, FIRING);
    assert_eq!(table.out(0), [[(1, FIRING), (2, FIRING)]]);
    assert_eq!(table.desk.wake_at(), None, "nothing comes of itself");
    table.take(5, 1, RESOLVED);
    assert_eq!(table.out(5), [[(1, RESOLVED)]]);
    assert_eq!(table.out(1_000_000), [[]; 0]);
    table.desk.take(said(2, FIRING, 0), at(6));
    assert_eq!((table.out(6).len(), table.counted("duplicate")), (0, 1), "it knows that");
    table.desk.take(Notification { started_ns: at(-20), ..said(2, FIRING, 0) }, at(6));
    assert_eq!(table.out(6), [[(2, FIRING)]], "but not of another start");
    table.assert_balance();
}

#[test]
fn groups_wait_for_others_then_for_their_interval() {
    let mut table = Table::new(grouped(30, 300, 0));
    table.take(0, 1, FIRING);
    table.take(10, 2, FIRING);
    table.take(20, 3, FIRING);
    assert_eq!(table.out(29), [[(0, FIRING); 0]; 0]);
    assert_eq!(table.desk.wake_at(), Some(at(30)));
    assert_eq!(table.out(30), [[(1, FIRING), (3, FIRING)]]);
    assert_eq!(table.out(40), [[(2, FIRING)]]);
    table.take(50, 1, RESOLVED);
    table.take(60, 5, FIRING);
    assert_eq!(table.out(329), [[(0, FIRING); 0]; 0]);
    assert_eq!(table.out(330), [[(1, RESOLVED), (5, FIRING)]]);
    // All of a group has ended: the next one begins a new group.
    table.take(331, 3, RESOLVED);
    table.take(331, 5, RESOLVED);
    assert_eq!(table.out(630), [[(3, RESOLVED), (5, RESOLVED)]]);
    table.take(631, 1, FIRING);
    assert_eq!(table.out(660), [[(0, FIRING); 0]; 0]);
    assert_eq!(table.out(661), [[(1, FIRING)]]);
    // Closing, nobody waits.
    table.take(662, 1, RESOLVED);
    table.desk.hurry(at(662));
    assert_eq!(table.out(662), [[(1, RESOLVED)]]);
    table.assert_balance();
}

#[test]
fn what_still_fires_is_repeated() {
    let mut table = Table::new(grouped(0, 0, 3600));
    table.take(0, 1, FIRING);
    assert_eq!(table.out(0), [[(1, FIRING)]]);
    table.take(1800, 3, FIRING);
    table.take(1800, 2, FIRING);
    assert_eq!(table.out(1800).len(), 2);
    assert_eq!(table.out(3599), [[(0, FIRING); 0]; 0]);
    assert_eq!(table.out(3600), [[(1, FIRING), (3, FIRING)]], "the whole group");
    table.take(3700, 3, RESOLVED);
    assert_eq!(table.out(3700), [[(3, RESOLVED)]]);
    assert_eq!(table.out(5400), [[(2, FIRING)]]);
    assert_eq!(table.out(7200), [[(1, FIRING)]]);
    assert_eq!(table.counted("repeated"), 4);
    // One that fails is tried again after a quarter of the time, and stands in nobody's way.
    assert_eq!(table.out_with(9000, Outcome::GivenUp), [[(2, FIRING)]]);
    assert_eq!(table.out(9899), [[(0, FIRING); 0]; 0]);
    assert_eq!(table.out(9900), [[(2, FIRING)]]);
    table.assert_balance();
}

#[test]
fn a_retraction_before_a_new_beginning_is_a_correction() {
    let mut table = Table::new(grouped(30, 30, 0));
    // Never sent: nothing to take back.
    table.take(0, 1, FIRING);
    table.take(1, 1, RETRACTED);
    assert_eq!((table.out(31).len(), table.counted("superseded")), (0, 2));
    // Sent: taken back and begun again in one batch.
    table.take(40, 1, FIRING);
    assert_eq!(table.out(70), [[(1, FIRING)]]);
    table.take(71, 1, RETRACTED);
    table.take(71, 1, FIRING);
    assert_eq!(table.out(100), [[(1, FIRING)]]);
    // And then taken back for good.
    table.take(101, 1, RETRACTED);
    table.take(101, 1, FIRING);
    table.take(101, 1, RETRACTED);
    assert_eq!(table.out(130), [[(1, RETRACTED)]]);
    // An end in between stays where it is.
    table.take(140, 1, FIRING);
    table.take(141, 1, RESOLVED);
    table.take(142, 1, FIRING);
    table.take(143, 1, RETRACTED);
    assert_eq!(table.out(170), [[(1, FIRING), (1, RESOLVED)]]);
    table.assert_balance();
}

#[test]
fn corrections_of_the_past_leave_the_newest_breach_as_it_is() {
    let past = [(FIRING, 10, 11), (RESOLVED, 10, 20), (RETRACTED, 5, 30)];
    for to_alertmanager in [false, true] {
        let mut table = if to_alertmanager {
            Table::to_alertmanager(grouped(0, 0, 0))
        } else {
            Table::new(grouped(0, 0, 60))
        };
        table.desk.take(of_breach(1, FIRING, 50, 60), at(60));
        table.out(60);
        for (status, started_s, time_s) in past {
            table.desk.take(of_breach(1, status, started_s, time_s), at(61));
        }
        let told: Vec<Status> = table.out(61).concat().into_iter().map(|(_, status)| status).collect();
        assert_eq!(told, if to_alertmanager { vec![] } else { vec![FIRING, RESOLVED, RETRACTED] });
        assert_eq!(table.out(120), [[(1, FIRING)]], "it still fires");
        table.desk.take(of_breach(1, RESOLVED, 50, 130), at(130));
        assert_eq!(table.out(130), [[(1, RESOLVED)]]);
        table.assert_balance();
    }
    // Nor do they let go or replace what a silence holds back.
    let mut table = Table::new(DeskConfig::default());
    table.silences = Silences::new(vec![silence("*", 0, 100)], Vec::new(), 9);
    table.desk.take(of_breach(1, FIRING, 50, 60), at(60));
    table.out(60);
    for (status, started_s, time_s) in past {
        table.desk.take(of_breach(1, status, started_s, time_s), at(61));
    }
    assert_eq!((table.out(61).len(), table.desk.held_len()), (0, 1));
    let batch = table.desk.next(at(100), &table.silences).unwrap();
    assert_eq!(batch.entries[0].notification, of_breach(1, FIRING, 50, 60));
}

#[test]
fn a_retraction_of_what_is_on_its_way_is_told() {
    let mut table = Table::new(DeskConfig::default());
    table.take(0, 1, FIRING);
    let batch = table.desk.next(at(0), &table.silences).unwrap();
    table.take(1, 1, RETRACTED);
    table.take(1, 1, FIRING);
    table.take(1, 1, RETRACTED);
    assert_eq!(table.desk.next(at(1), &table.silences), None, "one batch at a time");
    table.desk.settle(batch.entries, false, Outcome::Delivered, at(2));
    table.desk.landed(Some("".into()), true, at(2));
    assert_eq!(table.out(2), [[(1, RETRACTED)]]);
    table.assert_balance();
}

#[test]
fn an_alertmanager_is_told_again_what_fires_and_what_has_ended() {
    let mut table = Table::to_alertmanager(DeskConfig::default());
    table.take(0, 1, FIRING);
    assert_eq!(table.out(0), [[(1, FIRING)]]);
    assert_eq!(table.desk.wake_at(), Some(at(60)));
    assert_eq!(table.out(60), [[(1, FIRING)]]);
    table.take(90, 1, RESOLVED);
    assert_eq!(table.out(90), [[(1, RESOLVED)]]);
    let ends: Vec<i64> = (91..3600).filter(|now_s| !table.out(*now_s).is_empty()).collect();
    assert_eq!(ends, (1..15).map(|minute| 90 + 60 * minute).collect::<Vec<_>>());
    assert!(!table.desk.has_told());
    // What was given up it is told when it is back; what it refused it is not.
    table.take(4000, 1, FIRING);
    table.out_with(4000, Outcome::GivenUp);
    assert_eq!(table.out(4060), [[(1, FIRING)]]);
    table.take(4061, 2, FIRING);
    table.out_with(4061, Outcome::Rejected);
    assert_eq!(table.out(4120), [[(1, FIRING)]]);
    table.assert_balance();
}

#[test]
fn entries_say_when_the_alert_fired() {
    let mut table = Table::to_alertmanager(DeskConfig::default());
    table.take(7, 1, FIRING);
    table.take(8, 2, FIRING);
    table.take(9, 2, RESOLVED);
    table.out(9);
    table.take(20, 1, RESOLVED);
    table.take(20, 3, RESOLVED);
    let batch = table.desk.next(at(20), &table.silences).unwrap();
    let fired = |batch: &Batch| batch.entries.iter().map(|entry| entry.fired_ns).collect::<Vec<_>>();
    assert_eq!(fired(&batch), [Some(at(7)), None]);
    table.desk.settle(batch.entries, false, Outcome::Delivered, at(20));
    table.desk.landed(batch.group, true, at(20));
    let again = table.desk.next(at(90), &table.silences).unwrap();
    assert_eq!(fired(&again), [Some(at(8)), Some(at(7)), None]);
    assert_eq!(again.entries[0].ended_ns, Some(at(9)));
}

#[test]
fn a_receiver_that_turns_out_to_be_an_alertmanager() {
    let mut table = Table::new(DeskConfig::default());
    table.take(0, 1, FIRING);
    table.out(0);
    table.desk.speaks_to(true, at(100));
    assert_eq!(table.out(100), [[(1, FIRING)]]);
    assert_eq!(table.out(160), [[(1, FIRING)]]);
    table.desk.speaks_to(false, at(170));
    assert_eq!((table.out(100_000).len(), table.desk.wake_at()), (0, None));
}

fn silence(rule: &str, from_s: i64, to_s: i64) -> Silence {
    let wanted = AlertMatcher { rules: vec![rule.into()], ..Default::default() };
    let (starts_ns, ends_ns, is_configured) = (at(from_s), at(to_s), false);
    Silence {
        id: "s".into(),
        wanted,
        starts_ns,
        ends_ns,
        created_by: "".into(),
        comment: "".into(),
        is_configured,
    }
}

#[test]
fn nobody_is_told_what_is_silenced_until_the_silence_ends() {
    let mut table = Table::new(DeskConfig::default());
    table.silences = Silences::new(vec![silence("high_*", 10, 100)], Vec::new(), 9);
    table.take(0, 1, FIRING);
    table.out(0);
    for id in 2..=4 {
        table.take(20, id, FIRING);
    }
    assert_eq!((table.out(20).len(), table.counted("silenced"), table.desk.held_len()), (0, 3, 3));
    assert_eq!(table.desk.memory(at(20)).held.len(), 3);
    // Its beginning was told, so its end is; of another nothing is.
    table.take(30, 1, RESOLVED);
    table.take(30, 2, RESOLVED);
    table.take(30, 3, RETRACTED);
    assert_eq!(table.out(30), [[(1, RESOLVED)]]);
    assert_eq!((table.desk.held_len(), table.desk.wake_at()), (1, Some(at(100))));
    assert_eq!(table.out(99), [[(0, FIRING); 0]; 0]);
    assert_eq!(table.out(100), [[(4, FIRING)]]);
    assert_eq!(table.desk.held_len(), 0);
    table.take(101, 4, RESOLVED);
    assert_eq!(table.out(101), [[(4, RESOLVED)]]);
    table.assert_balance();
}

#[test]
fn a_silence_that_is_taken_away_ends_at_once_and_one_in_a_row_holds_on() {
    let mut table = Table::new(DeskConfig { queue_len_max: 1, ..DeskConfig::default() });
    let id = table.silences.give(silence("*", 0, 1000), at(0)).unwrap();
    table.take(5, 1, FIRING);
    table.take(5, 2, FIRING);
    assert_eq!((table.out(5).len(), table.counted("turned_away")), (0, 1), "the queue takes one");
    table.silences.give(silence("*", 900, 2000), at(6)).unwrap();
    assert_eq!(table.out(1500).len(), 0);
    table.take(1501, 3, FIRING);
    assert_eq!(table.out(1501).len(), 0);
    assert!(!table.silences.take_away(&id, at(1501)).unwrap(), "it is over");
    let id = table.silences.list(at(1501))[0].id.clone();
    assert!(table.silences.take_away(&id, at(1502)).unwrap());
    // Room for one at a time: the other one a little later.
    assert_eq!(table.out(1502), [[(1, FIRING)]]);
    assert_eq!(table.desk.wake_at(), Some(at(1503)));
    assert_eq!(table.out(1503), [[(3, FIRING)]]);
    table.assert_balance();
}

#[test]
fn maintenance_windows_hold_back_and_hold_repeats() {
    let mut table = Table::new(DeskConfig { repeat_ns: 600 * SECOND, ..DeskConfig::default() });
    let (wanted, comment) = (AlertMatcher { service: Some("s".into()), ..Default::default() }, String::new());
    // Noon is a Monday: from 12:05 to 12:30.
    let (from_s, to_s) = (43_500, 45_000);
    let window = Maintenance { id: "m".into(), wanted, days: [true; 7], from_s, to_s, offset_s: 0, comment };
    table.silences = Silences::new(Vec::new(), vec![window], 9);
    table.take(0, 1, FIRING);
    table.out(0);
    table.take(400, 2, FIRING);
    let told: Vec<_> =
        (400..2500).flat_map(|now_s| table.out(now_s).into_iter().map(move |b| (now_s, b))).collect();
    let expected =
        [(1800, vec![(2, FIRING)]), (1800, vec![(1, FIRING)]), (2400, vec![(1, FIRING), (2, FIRING)])];
    assert_eq!(told, expected);
    // To an Alertmanager what it knows stays alive, or it would let it go.
    table.desk.speaks_to(true, at(2500));
    assert_eq!(table.out(86_400 + 400), [[(1, FIRING), (2, FIRING)]]);
    table.assert_balance();
}

#[test]
fn receivers_get_what_they_want() {
    let wanted = AlertMatcher { tags: [("host".into(), "o*".into())].into(), ..Default::default() };
    let config = DeskConfig { wanted, send_resolved: false, send_retracted: false, ..DeskConfig::default() };
    let mut table = Table::new(config);
    for (id, status) in [(1, FIRING), (2, FIRING), (1, RESOLVED), (3, FIRING), (3, RETRACTED)] {
        table.take(0, id, status);
        if id == 3 && status == FIRING {
            assert_eq!(table.out(0), [[(1, FIRING), (3, FIRING)]]);
        }
    }
    assert_eq!((table.out(0).len(), table.counted("unwanted"), table.desk.has_told()), (0, 3, false));
    table.assert_balance();
}

#[test]
fn several_batches_never_hold_one_alert_twice() {
    let mut table = Table::new(DeskConfig { in_flight_max: 3, batch_len_max: 1, ..DeskConfig::default() });
    for (id, status) in [(1, FIRING), (1, RESOLVED), (2, FIRING), (3, FIRING), (4, FIRING)] {
        table.take(0, id, status);
    }
    let next = |table: &mut Table| table.desk.next(at(0), &table.silences).map(|b| b.entries[0].clone());
    let first = next(&mut table).unwrap();
    let ids: Vec<u128> =
        [next(&mut table), next(&mut table)].into_iter().flatten().map(|e| e.notification.id).collect();
    assert_eq!((ids, next(&mut table)), (vec![2, 3], None));
    table.desk.settle(vec![first], false, Outcome::Delivered, at(1));
    table.desk.landed(Some("".into()), true, at(1));
    let after = next(&mut table).unwrap().notification;
    assert_eq!((after.id, after.status), (1, RESOLVED));
}
