//! Silences and maintenance windows: of which alerts nobody is told, and when.
//!
//! [`Silences`] knows those of the configuration and those given by the API; the latter are kept in a file that is
//! replaced as a whole before the API answers. It reads no clock: whoever asks says what time it is.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;

use operators::sample::{SECOND, TimeNs};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::matcher::{AlertMatcher, Subject};
use crate::delivery::replace;

const DAY_S: i64 = 86_400;
/// Beginnings and ends that are looked at to find a gap.
const CHANGES_MAX: usize = 100;

/// One silence. It holds in `[starts_ns, ends_ns)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    /// Unique.
    pub id: String,
    /// Which alerts.
    #[serde(rename = "match")]
    pub wanted: AlertMatcher,
    /// When it begins.
    pub starts_ns: TimeNs,
    /// When it ends.
    pub ends_ns: TimeNs,
    /// Who gave it.
    pub created_by: String,
    /// Why.
    pub comment: String,
    /// Whether it stands in the configuration.
    #[serde(skip)]
    pub is_configured: bool,
}

/// Hours that come again each week.
#[derive(Clone, Debug, PartialEq)]
pub struct Maintenance {
    /// Unique.
    pub id: String,
    /// Which alerts.
    pub wanted: AlertMatcher,
    /// Whether it begins on a day, from Monday on.
    pub days: [bool; 7],
    /// Seconds after midnight at which it begins.
    pub from_s: u32,
    /// Seconds after midnight at which it ends: of the next day where that is not after `from_s`.
    pub to_s: u32,
    /// Seconds that its midnight is before UTC's.
    pub offset_s: i32,
    /// Why.
    pub comment: String,
}

impl Maintenance {
    /// Beginning and end of the windows that begin on the days around `now_ns`, in order: all that can hold then, and
    /// the next one.
    fn around(&self, now_ns: TimeNs) -> impl Iterator<Item = (TimeNs, TimeNs)> + '_ {
        let local_s = now_ns.div_euclid(SECOND) + i64::from(self.offset_s);
        let today = local_s.div_euclid(DAY_S);
        let length_s = match i64::from(self.to_s) - i64::from(self.from_s) {
            past @ ..=0 => past + DAY_S,
            length => length,
        };
        (today - 1..=today + 7).filter_map(move |day| {
            // 1970-01-01 was a Thursday.
            self.days[(day + 3).rem_euclid(7) as usize].then_some(())?;
            let from_s = day * DAY_S + i64::from(self.from_s) - i64::from(self.offset_s);
            Some((from_s.checked_mul(SECOND)?, (from_s + length_s).checked_mul(SECOND)?))
        })
    }

    /// Whether it holds at `now_ns`.
    pub fn holds(&self, now_ns: TimeNs) -> bool {
        self.around(now_ns).any(|(from_ns, to_ns)| from_ns <= now_ns && now_ns < to_ns)
    }
}

/// Why a silence was not taken.
#[derive(Debug)]
pub enum NotTaken {
    /// There are this many already.
    Full(usize),
    /// It can't be kept.
    Unkept(io::Error),
}

/// All of them.
pub struct Silences {
    inner: RwLock<Inner>,
    maintenance: Vec<Maintenance>,
    place: Option<PathBuf>,
    len_max: usize,
    changed: watch::Sender<u64>,
}

#[derive(Default)]
struct Inner {
    configured: Vec<Silence>,
    given: Vec<Silence>,
}

impl Inner {
    fn all(&self) -> impl Iterator<Item = &Silence> {
        self.configured.iter().chain(&self.given)
    }
}

impl Default for Silences {
    fn default() -> Self {
        Silences::new(Vec::new(), Vec::new(), 1000)
    }
}

impl Silences {
    /// Those of the configuration; at most `len_max` more may be given, which end with the process.
    pub fn new(configured: Vec<Silence>, maintenance: Vec<Maintenance>, len_max: usize) -> Silences {
        let inner = RwLock::new(Inner { configured, given: Vec::new() });
        Silences { inner, maintenance, place: None, len_max, changed: watch::Sender::new(0) }
    }

    /// Keeps those that are given in the file `place`, and takes those in that it holds.
    ///
    /// # Errors
    /// There is a file, and it can't be read or understood.
    pub fn kept_in(mut self, place: PathBuf) -> io::Result<Silences> {
        let of = |error: &dyn std::fmt::Display| io::Error::other(format!("{}: {error}", place.display()));
        match std::fs::read(&place) {
            Ok(text) => self.inner.get_mut().given = serde_json::from_slice(&text).map_err(|e| of(&e))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(of(&error)),
        }
        self.place = Some(place);
        Ok(self)
    }

    /// Whether somebody may be told of `alert` at `now_ns`.
    pub fn covers(&self, alert: &Subject<'_>, now_ns: TimeNs) -> bool {
        let holds = |s: &Silence| s.starts_ns <= now_ns && now_ns < s.ends_ns && s.wanted.matches(alert);
        self.inner.read().all().any(holds)
            || self.maintenance.iter().any(|m| m.wanted.matches(alert) && m.holds(now_ns))
    }

    /// Whether `alert` was silenced all the time from `from_ns` to `to_ns`.
    pub fn covers_all(&self, alert: &Subject<'_>, from_ns: TimeNs, to_ns: TimeNs) -> bool {
        let mut at_ns = from_ns;
        // More changes than that in between are not looked at: then it may have been or not.
        for _ in 0..CHANGES_MAX {
            if !self.covers(alert, at_ns) {
                return false;
            }
            match self.next_change(at_ns) {
                Some(next_ns) if next_ns <= to_ns => at_ns = next_ns,
                _ => return true,
            }
        }
        false
    }

    /// Ids of what silences `alert` at `now_ns`.
    pub fn covering(&self, alert: &Subject<'_>, now_ns: TimeNs) -> Vec<String> {
        let holds = |s: &&Silence| s.starts_ns <= now_ns && now_ns < s.ends_ns && s.wanted.matches(alert);
        let mut ids: Vec<String> = self.inner.read().all().filter(holds).map(|s| s.id.clone()).collect();
        let windows = self.maintenance.iter().filter(|m| m.wanted.matches(alert) && m.holds(now_ns));
        ids.extend(windows.map(|window| window.id.clone()));
        ids
    }

    /// When something of it begins or ends next.
    pub fn next_change(&self, now_ns: TimeNs) -> Option<TimeNs> {
        let inner = self.inner.read();
        let silences = inner.all().flat_map(|s| [s.starts_ns, s.ends_ns]);
        let windows =
            self.maintenance.iter().flat_map(|m| m.around(now_ns)).flat_map(|(from, to)| [from, to]);
        silences.chain(windows).filter(|at_ns| *at_ns > now_ns).min()
    }

    /// Tells of every change of what is given: the number of changes so far.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The number of changes so far.
    pub fn version(&self) -> u64 {
        *self.changed.borrow()
    }

    /// Those that have not ended.
    pub fn list(&self, now_ns: TimeNs) -> Vec<Silence> {
        self.inner.read().all().filter(|silence| silence.ends_ns > now_ns).cloned().collect()
    }

    /// The windows.
    pub fn maintenance(&self) -> &[Maintenance] {
        &self.maintenance
    }

    /// Takes one in under a new id, and lets go of those that have ended.
    ///
    /// # Errors
    /// There are too many, or it can't be kept; then nothing has changed.
    pub fn give(&self, mut silence: Silence, now_ns: TimeNs) -> Result<String, NotTaken> {
        let draw = || u128::from(RandomState::new().hash_one(now_ns));
        silence.id = format!("{:032x}", draw() << 64 | draw());
        let id = silence.id.clone();
        self.change(now_ns, |given| {
            if given.len() >= self.len_max {
                return Err(NotTaken::Full(self.len_max));
            }
            given.push(silence);
            Ok(())
        })?;
        Ok(id)
    }

    /// Takes one away that was given; says whether it was there.
    ///
    /// # Errors
    /// That can't be kept; then nothing has changed.
    pub fn take_away(&self, id: &str, now_ns: TimeNs) -> Result<bool, NotTaken> {
        if !self.inner.read().given.iter().any(|silence| silence.id == id && silence.ends_ns > now_ns) {
            return Ok(false);
        }
        self.change(now_ns, |given| {
            given.retain(|silence| silence.id != id);
            Ok(())
        })?;
        Ok(true)
    }

    fn change(
        &self,
        now_ns: TimeNs,
        change: impl FnOnce(&mut Vec<Silence>) -> Result<(), NotTaken>,
    ) -> Result<(), NotTaken> {
        let mut inner = self.inner.write();
        let mut given = inner.given.clone();
        given.retain(|silence| silence.ends_ns > now_ns);
        change(&mut given)?;
        if let Some(place) = &self.place {
            let text = serde_json::to_vec(&given).map_err(|e| NotTaken::Unkept(e.into()))?;
            replace(place, &text).map_err(NotTaken::Unkept)?;
        }
        inner.given = given;
        drop(inner);
        self.changed.send_modify(|version| *version += 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use operators::series::Target;

    const HOUR: i64 = 3600 * SECOND;
    /// 2024-01-01T00:00:00Z, a Monday.
    const MONDAY: i64 = 1_704_067_200 * SECOND;

    fn window(days: [bool; 7], from_s: u32, to_s: u32, offset_s: i32) -> Maintenance {
        let (wanted, comment) = Default::default();
        Maintenance { id: "m".into(), wanted, days, from_s, to_s, offset_s, comment }
    }

    fn silence(starts_ns: TimeNs, ends_ns: TimeNs) -> Silence {
        let wanted = AlertMatcher { rules: vec!["r".into()], ..Default::default() };
        let (id, created_by, comment) = Default::default();
        Silence { id, wanted, starts_ns, ends_ns, created_by, comment, is_configured: false }
    }

    #[test]
    fn windows_come_again_each_week() {
        let monday = [true, false, false, false, false, false, false];
        // From Monday, 22:00 at two hours before UTC, to Tuesday, 02:00 there.
        let night = window(monday, 22 * 3600, 2 * 3600, 2 * 3600);
        for (hours, expected) in
            [(19, false), (20, true), (23, true), (24, false), (20 - 168, true), (44, false)]
        {
            assert_eq!(night.holds(MONDAY + hours * HOUR), expected, "{hours}");
        }
        let whole_day = window([true; 7], 0, 24 * 3600, 0);
        assert!((0..48).all(|half| whole_day.holds(MONDAY + half * HOUR / 2)));
        // Against every second of two weeks by the definition.
        let odd = window([true, false, true, true, false, false, true], 86_399, 3, -5 * 3600 - 1800);
        for second in 0..14 * DAY_S {
            let local = second - 5 * 3600 - 1800;
            let (day, of_day) = (local.div_euclid(DAY_S), local.rem_euclid(DAY_S));
            let began = |day: i64| odd.days[day.rem_euclid(7) as usize];
            let expected = of_day == 86_399 && began(day) || of_day < 3 && began(day - 1);
            if expected || second % 97 == 0 {
                assert_eq!(odd.holds(MONDAY + second * SECOND), expected, "{second}");
            }
        }
    }

    #[test]
    fn the_next_change_is_the_first_moment_at_which_something_differs() {
        let windows = vec![window([false, true, false, false, false, false, false], 3600, 7200, 0)];
        let silences = Silences::new(vec![silence(MONDAY + HOUR, MONDAY + 30 * HOUR)], windows, 9);
        let mut now_ns = MONDAY;
        let mut changes = Vec::new();
        while changes.len() < 5 {
            now_ns = silences.next_change(now_ns).unwrap();
            changes.push((now_ns - MONDAY) / HOUR);
        }
        assert_eq!(changes, [1, 25, 26, 30, 24 * 8 + 1]);
        assert_eq!(Silences::default().next_change(0), None);
    }

    #[test]
    fn what_is_given_is_kept_bounded_and_let_go() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("cursors/silences.json");
        let open = || Silences::new(Vec::new(), Vec::new(), 2).kept_in(place.clone()).unwrap();
        let silences = open();
        let first = silences.give(silence(0, 10), 5).unwrap();
        let second = silences.give(silence(0, 20), 5).unwrap();
        assert!(matches!(silences.give(silence(0, 20), 6), Err(NotTaken::Full(2))));
        assert_eq!((silences.list(5).len(), silences.list(10).len()), (2, 1));
        assert!(!silences.take_away(&first, 10).unwrap(), "it has ended");
        let third = silences.give(silence(12, 20), 11).unwrap();
        let silences = open();
        let ids: Vec<String> = silences.list(11).into_iter().map(|silence| silence.id).collect();
        assert_eq!(ids, [second.clone(), third.clone()]);

        let target = Target::new("s", []);
        let alert = |rule| Subject { rule, severity: "warning", target: &target };
        assert_eq!(silences.covering(&alert("r"), 11), std::slice::from_ref(&second));
        assert_eq!(silences.covering(&alert("r"), 12), [second.clone(), third]);
        assert!(silences.covers_all(&alert("r"), 0, 19) && !silences.covers_all(&alert("r"), 0, 20));
        assert!(silences.covers(&alert("r"), 19) && !silences.covers(&alert("r"), 20));
        assert!(!silences.covers(&alert("other"), 12));
        let mut told = silences.subscribe();
        assert!(silences.take_away(&second, 12).unwrap() && !silences.take_away(&second, 12).unwrap());
        assert!(told.has_changed().unwrap() && *told.borrow_and_update() == 1);
        assert_eq!(open().list(12).len(), 1);

        std::fs::write(&place, "[{").unwrap();
        let error = Silences::default().kept_in(place.clone()).err().unwrap();
        assert!(error.to_string().contains("silences.json"), "{error}");
    }
}
