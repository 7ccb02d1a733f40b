//! Sources with which nothing happens: whose values may come later, and be held elsewhere.

use super::{Machines, Source};
use crate::pane::Obs;
use crate::sample::{SeriesId, TimeNs};
use crate::window::Asleep;

impl Machines {
    /// Has [`Self::take_asleep`] tell from now on.
    pub fn let_sleep(&mut self) {
        self.drowsy.get_or_insert_default();
    }

    /// Series that have fallen asleep since this was asked last, as of the last epoch applied: their quiet values may be
    /// told later, by [`Self::catch_up`].
    pub fn take_asleep(&mut self) -> Vec<Asleep> {
        let Some(drowsy) = self.drowsy.as_mut().filter(|drowsy| !drowsy.is_empty()) else {
            return Vec::new();
        };
        let drowsy = std::mem::take(drowsy);
        let mut asleep = Vec::with_capacity(drowsy.len());
        for place in drowsy {
            let (source, watched) = &mut self.sources[place as usize];
            if let Source::Series(series) = *source
                && watched.falls_asleep(&self.rules, &self.patience)
            {
                asleep.push(Asleep { series, quiet: watched.front.quiet, epoch: self.epoch });
            }
        }
        asleep
    }

    /// Has a source be looked at by [`Self::take_asleep`].
    #[inline]
    pub(super) fn see_asleep(&mut self, place: u32) {
        if let Some(drowsy) = &mut self.drowsy
            && self.sources[place as usize].1.front.busy == 0
        {
            drowsy.push(place);
        }
    }

    /// Takes values of a series that sleeps: quiet, and in order behind those that came before; those that it lent in
    /// front. The newest came at `arrival_ns`.
    pub fn catch_up(&mut self, series: SeriesId, arrival_ns: TimeNs, values: &[Obs]) {
        let Some(place) = self.place(series) else { return };
        let Machines { rules, patience, sources, .. } = self;
        sources[place as usize].1.catch_up(rules, patience, arrival_ns, values);
    }

    /// Gives up the values that are kept of a series that sleeps, if `is_held` says that somebody holds them. Says how
    /// many they are.
    pub fn lend(
        &mut self,
        series: SeriesId,
        is_held: impl FnOnce(&[(TimeNs, f64)]) -> bool,
    ) -> Option<usize> {
        let place = self.place(series)?;
        let Machines { rules, patience, sources, .. } = self;
        sources[place as usize].1.lend(rules, patience, is_held)
    }
}
