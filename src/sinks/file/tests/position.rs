//! The position beside the files: what is believed when it is old, lost, of another journal, or when
//! somebody has been at the files.

use super::simulated::Simulated;
use super::*;

const JOURNAL: u128 = 7;

fn one(at: i64) -> Message {
    message(NOON + at, "s", &[], &[("m", at as f64)])
}

/// A directory of journal 7 in which epoch 5 was flushed, and a row behind it stored and not flushed.
fn after_a_crash(format: FileFormat, compression: bool) -> Place {
    let mut place = Place::new(format, compression);
    place.config.journal_id = Some(JOURNAL);
    let mut sink = place.open();
    assert_eq!(sink.cursor(), Some(0));
    sink.write(&[one(1)]).unwrap();
    sink.flush(5).unwrap();
    store_unflushed(&mut sink, one(2));
    drop(sink);
    place
}

fn store_unflushed(sink: &mut FileSink, message: Message) {
    sink.limits.pending_bytes = 1;
    sink.limits.pending_rows = 1;
    sink.write(&[message]).unwrap();
    sink.write(&[]).unwrap();
}

#[track_caller]
fn check_position(sink: &FileSink, cursor: Option<Position>, lost_cursors: u64, rows: &[i64]) {
    let expected: Vec<Message> = rows.iter().map(|at| one(*at)).collect();
    check(sink, &expected);
    assert_eq!((sink.cursor(), sink.status().lost_cursors), (cursor, lost_cursors));
    assert_eq!(sink.status().unreadable_files, 0);
}

#[test]
fn what_lies_behind_the_position_is_taken_away() {
    for (format, compression) in KINDS {
        let place = after_a_crash(format, compression);
        let mut sink = place.open();
        check_position(&sink, Some(5), 0, &[1]);
        sink.write(&[one(2), one(3)]).unwrap();
        sink.flush(7).unwrap();
        drop(sink);
        check_position(&place.open(), Some(7), 0, &[1, 2, 3]);
    }
}

#[test]
fn without_its_position_nothing_is_taken_away_and_it_is_counted() {
    let missing = |path: &Path| fs::remove_file(path).unwrap();
    let empty = |path: &Path| fs::write(path, b"").unwrap();
    let flipped = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        bytes[60] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    type Damage<'a> = (&'a str, &'a dyn Fn(&Path));
    let damages: [Damage<'_>; 3] = [("missing", &missing), ("empty", &empty), ("flipped", &flipped)];
    for (format, compression) in KINDS {
        for (what, damage) in damages {
            let place = after_a_crash(format, compression);
            damage(&place.hide(".cursor"));
            let mut sink = place.open();
            assert_eq!(place.files().len(), if format == FileFormat::Parquet { 2 } else { 1 }, "{what}");
            check_position(&sink, Some(0), 1, &[1, 2]);
            // From here on it is exact again, also before the first flush.
            store_unflushed(&mut sink, one(3));
            drop(sink);
            let mut sink = place.open();
            check_position(&sink, Some(0), 0, &[1, 2]);
            sink.write(&[one(3)]).unwrap();
            sink.flush(6).unwrap();
            drop(sink);
            check_position(&place.open(), Some(6), 0, &[1, 2, 3]);
        }
    }
}

#[test]
fn a_position_of_another_journal_is_not_used_and_nothing_is_taken_away() {
    for (format, compression) in KINDS {
        let mut place = after_a_crash(format, compression);
        place.config.journal_id = Some(JOURNAL + 1);
        check_position(&place.open(), Some(0), 0, &[1, 2]);
        let mut sink = place.open();
        check_position(&sink, Some(0), 0, &[1, 2]);
        store_unflushed(&mut sink, one(3));
        drop(sink);
        let mut sink = place.open();
        check_position(&sink, Some(0), 0, &[1, 2]);
        sink.write(&[one(3)]).unwrap();
        sink.flush(1).unwrap();
        drop(sink);
        place.config.journal_id = Some(JOURNAL);
        check_position(&place.open(), Some(0), 0, &[1, 2, 3]);
    }
}

#[test]
fn rows_stored_without_a_journal_are_never_taken_away() {
    for (format, compression) in KINDS {
        let mut place = after_a_crash(format, compression);
        place.config.journal_id = None;
        let mut sink = place.open();
        check_position(&sink, None, 0, &[1, 2]);
        sink.write(&[one(3)]).unwrap();
        sink.flush(0).unwrap();
        sink.write(&[one(4)]).unwrap();
        drop(sink);
        assert!(!place.hide(".cursor").exists());
        // The position would be older than what was stored since.
        place.config.journal_id = Some(JOURNAL);
        check_position(&place.open(), Some(0), 1, &[1, 2, 3, 4]);
    }
}

#[test]
fn a_position_ahead_of_its_journal_can_be_put_back() {
    for (format, compression) in KINDS {
        let place = after_a_crash(format, compression);
        let mut sink = place.open();
        sink.flush(3).unwrap();
        drop(sink);
        let mut sink = place.open();
        check_position(&sink, Some(3), 0, &[1]);
        sink.write(&[one(4)]).unwrap();
        sink.flush(4).unwrap();
        drop(sink);
        check_position(&place.open(), Some(4), 0, &[1, 4]);
    }
}

#[test]
fn a_file_changed_by_hand_is_left_as_it_is() {
    let row =
        "{\"timestamp\":\"2024-01-01T12:00:00.000000009Z\",\"service\":\"s\",\"metrics\":{\"m\":9.0}}\n";
    let place = after_a_crash(FileFormat::Json, false);
    let file = place.files().remove(0);
    // Rows in front have moved the others, so that the length that counts ends within one.
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, [row.replace('9', "8").as_str(), row, &text].concat()).unwrap();
    let sink = place.open();
    assert_eq!((sink.cursor(), sink.status().lost_cursors), (Some(5), 1));
    assert_eq!(read(&sink, &all()).len(), 4);
    drop(sink);
    for (format, compression) in KINDS {
        let place = after_a_crash(format, compression);
        let file = place.files().remove(0);
        fs::remove_file(&file).unwrap();
        let mut sink = place.open();
        check_position(&sink, Some(5), 0, &[]);
        sink.write(&[one(6)]).unwrap();
        sink.flush(6).unwrap();
        // And once more, while it is written.
        fs::remove_file(place.files().remove(0)).unwrap();
        sink.write(&[one(7)]).unwrap();
        let again = sink.flush(7).or_else(|_| sink.flush(7));
        assert_eq!(again, Ok(()), "{format:?} {compression}");
        drop(sink);
        check_position(&place.open(), Some(7), 0, &[7]);
    }
}

#[test]
fn what_the_position_gives_no_length_of_does_not_grow() {
    for (format, compression) in KINDS {
        let mut place = Place::new(format, compression);
        (place.config.journal_id, place.config.file_bytes_max) = (Some(JOURNAL), 1);
        let mut sink = place.open();
        sink.write(&[one(1)]).unwrap();
        sink.flush(1).unwrap();
        // A flush later the position does not name the full file any more.
        sink.flush(2).unwrap();
        drop(sink);
        place.config.file_bytes_max = 1 << 30;
        let mut sink = place.open();
        store_unflushed(&mut sink, one(2));
        drop(sink);
        check_position(&place.open(), Some(2), 0, &[1]);
    }
}

#[test]
fn an_index_does_not_reach_beyond_the_position() {
    for (format, compression) in KINDS {
        let place = after_a_crash(format, compression);
        let disk = Arc::new(Simulated::new(place.dir.path(), 0));
        let mut sink = place.open();
        sink.write(&[one(2), one(3), one(4)]).unwrap();
        sink.flush(6).unwrap();
        store_unflushed(&mut sink, one(5));
        drop(sink);
        // What comes again lies otherwise in the file, and the next process is killed.
        disk.adopt();
        let mut sink = place.open_on(disk.clone());
        sink.write(&[one(5), one(6), one(7)]).unwrap();
        sink.flush(7).unwrap();
        disk.end();
        drop(sink);
        check_position(&place.open(), Some(7), 0, &[1, 2, 3, 4, 5, 6, 7]);
    }
}

/// A backup put back beside newer files may have any number.
#[test]
fn a_data_file_put_there_by_hand_stays() {
    for (format, compression) in KINDS {
        let other = Place::new(format, compression);
        let mut sink = other.open();
        sink.write(&[one(9)]).unwrap();
        sink.flush(0).unwrap();
        drop(sink);
        let place = after_a_crash(format, compression);
        let file = other.files().remove(0);
        let name = FileName::parse(file.file_name().unwrap().to_str().unwrap()).unwrap();
        let name = FileName { first: 40, last: 40, ..name };
        fs::copy(file, place.hide(&name.text())).unwrap();
        let mut sink = place.open();
        check_position(&sink, Some(5), 0, &[1, 9]);
        sink.write(&[one(2)]).unwrap();
        sink.flush(6).unwrap();
        drop(sink);
        check_position(&place.open(), Some(6), 0, &[1, 2, 9]);
    }
}

/// The figures that `store` gives: data, cursor and directory are synced, renaming is not.
#[test]
fn a_flush_makes_few_changes() {
    for (format, compression) in KINDS {
        let mut place = Place::new(format, compression);
        place.config.journal_id = Some(JOURNAL);
        let disk = Arc::new(Simulated::new(place.dir.path(), 0));
        let mut sink = place.open_on(disk.clone());
        let calls = |step: &mut dyn FnMut()| {
            let before = disk.calls();
            step();
            disk.calls() - before
        };
        let mut flush = |rows: &[Message], upto| {
            sink.write(rows).unwrap();
            calls(&mut || sink.flush(upto).unwrap())
        };
        // The first row of a journal costs a cursor more.
        flush(&[one(1)], 1);
        let new_file = usize::from(format == FileFormat::Parquet) * 2;
        flush(&[one(2)], 2);
        assert_eq!(flush(&[one(3)], 3), 4 + new_file, "{format:?}: data, cursor, its name, the directory");
        flush(&[], 4);
        assert_eq!(flush(&[], 5), 3, "a position alone");
        assert_eq!(flush(&[], 5), 0, "nothing new");
    }
}
