//! The keeper on files in memory.

use super::*;

fn until(what: &str, met: impl Fn() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn short_of_free_space_nothing_is_written_until_there_is_some() {
    let config =
        KeeperConfig { free_bytes_min: 100, retry: Duration::from_millis(1), ..KeeperConfig::default() };
    let files = Arc::new(MemoryFiles::default());
    let (keeper, _) = Keeper::open(files, LogConfig::default(), config).unwrap();
    let free = Arc::new(AtomicU64::new(99));
    let read = free.clone();
    keeper.watch_space(Box::new(move || Some(read.load(Ordering::SeqCst))));
    std::thread::scope(|scope| {
        let appended = scope.spawn(|| keeper.append(&Epoch { number: 1, ..Epoch::default() }));
        until("it says why it waits", || keeper.trouble().is_some_and(|why| why.contains("free_space_min")));
        assert_eq!(keeper.log().appended(), 0);
        free.store(100, Ordering::SeqCst);
        assert_eq!(appended.join().unwrap(), Ok(()));
    });
    assert_eq!((keeper.trouble(), keeper.log().appended()), (None, 1));
    // About to stop, it waits no longer.
    free.store(0, Ordering::SeqCst);
    keeper.close();
    keeper.space.get().unwrap().seen.lock().1 = Some(0);
    assert_eq!(keeper.append(&Epoch { number: 2, ..Epoch::default() }), Err(GivenUp));
}

#[test]
fn an_epoch_is_safe_once_it_is_synced() {
    let files = Arc::new(MemoryFiles::default());
    let (keeper, _) = Keeper::open(files, LogConfig::default(), KeeperConfig::default()).unwrap();
    let woken = Arc::new(AtomicU64::new(0));
    let count = woken.clone();
    keeper.add_waker(Box::new(move || {
        count.fetch_add(1, Ordering::SeqCst);
    }));
    keeper.append(&Epoch { number: 1, ..Epoch::default() }).unwrap();
    assert_eq!((keeper.safe(), woken.load(Ordering::SeqCst)), (0, 0));
    keeper.sync().unwrap();
    assert_eq!((keeper.safe(), woken.load(Ordering::SeqCst)), (1, 1));
    keeper.sync().unwrap();
    assert_eq!(woken.load(Ordering::SeqCst), 1, "nothing new, nobody is woken");
}
