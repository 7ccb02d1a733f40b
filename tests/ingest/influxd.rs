//! influxd 1.6: lines that it is asked about, and what it holds of them.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::http::{FORM, ask, form};
use crate::running::Running;
use crate::server::{Program, Server};

const INFLUXD: Program = Program { name: "influxd", package: "influxdb" };

fn start() -> Server {
    Server::start(INFLUXD, 2, configure)
}

fn configure(directory: &Path, ports: &[u16]) -> Vec<String> {
    let (dir, http, backup) = (directory.display(), ports[0], ports[1]);
    let text = format!(
        "reporting-disabled = true\nbind-address = \"127.0.0.1:{backup}\"\n[meta]\ndir = \"{dir}/meta\"\n\
         [data]\ndir = \"{dir}/data\"\nwal-dir = \"{dir}/wal\"\nquery-log-enabled = false\n\
         [monitor]\nstore-enabled = false\n[http]\nbind-address = \"127.0.0.1:{http}\"\nlog-enabled = false\n"
    );
    let file = directory.join("influxdb.conf");
    std::fs::write(&file, text).expect("a file for the settings");
    vec!["-config".into(), file.display().to_string()]
}

/// Measurement, tags, field and time in nanoseconds -> bits of the value.
type Held = BTreeMap<(String, Vec<(String, String)>, String, i64), u64>;

/// Its databases are made for one body each.
struct Oracle {
    server: Server,
    databases: usize,
}

impl Oracle {
    fn query(&self, database: &str, text: &str) -> Value {
        let body = form(&[("db", database), ("epoch", "ns"), ("q", text)]);
        let (status, answer) = ask(self.server.port(), "POST", "/query", &[FORM], &body);
        assert_eq!(status, 200, "{text}: {answer}");
        serde_json::from_str(&answer).expect("an answer in JSON")
    }

    /// Status, error and what is held of a body.
    fn write(&mut self, precision: &str, body: &str) -> (u16, String, Held) {
        self.databases += 1;
        let database = format!("d{}", self.databases);
        self.query("", &format!("CREATE DATABASE {database}"));
        let path = format!("/write?db={database}&precision={precision}");
        let (status, answer) = ask(self.server.port(), "POST", &path, &[], body.as_bytes());
        let mut held = Held::new();
        let found = self.query(&database, "SELECT * FROM /.*/ GROUP BY *");
        for series in found["results"][0]["series"].as_array().into_iter().flatten() {
            hold(series, &mut held);
        }
        self.query("", &format!("DROP DATABASE {database}"));
        (status, error_of(&answer), held)
    }
}

/// Numbers and booleans of a series; texts are passed over.
fn hold(series: &Value, held: &mut Held) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    // Tags that other series of the measurement have are told with nothing in them.
    let tags = series["tags"].as_object().into_iter().flatten();
    let tags = tags.map(|(key, value)| (key.clone(), text(value))).filter(|(_, value)| !value.is_empty());
    let tags: Vec<(String, String)> = tags.collect();
    let columns: Vec<String> = series["columns"].as_array().into_iter().flatten().map(text).collect();
    for row in series["values"].as_array().into_iter().flatten() {
        let time = row[0].as_i64().expect("a time");
        for (column, cell) in columns.iter().zip(row.as_array().into_iter().flatten()).skip(1) {
            let value = cell.as_bool().map(|is| f64::from(u8::from(is))).or(cell.as_f64());
            if let Some(value) = value {
                // Its answers have no word for a negative zero.
                held.insert(
                    (text(&series["name"]), tags.clone(), column.clone(), time),
                    (value + 0.0).to_bits(),
                );
            }
        }
    }
}

fn error_of(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap_or_default();
    answer["error"].as_str().unwrap_or_default().to_string()
}

/// The same of ours, of which each body gets its own as well.
fn ours(precision: &str, body: &str) -> (u16, String, Held) {
    let service = Running::start("storage: { type: none }\ningest: { future_max: 3650d }");
    let answer = service.request("POST", &format!("/write?precision={precision}"), &[], body.as_bytes());
    let mut held = Held::new();
    if let Some(epoch) = answer.header("x-plantd-epoch") {
        let found = service.json(&format!("/api/v1/metrics?limit=10000&min_epoch={epoch}"));
        for message in found["metrics"].as_array().into_iter().flatten() {
            let time: jiff::Timestamp =
                message["timestamp"].as_str().and_then(|text| text.parse().ok()).expect("a time");
            let time = time.as_nanosecond() as i64;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
            let tags: Vec<(String, String)> = message["tags"]
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| (key.clone(), text(value)))
                .collect();
            for (metric, value) in message["metrics"].as_object().into_iter().flatten() {
                let key = (text(&message["service"]), tags.clone(), metric.clone(), time);
                held.insert(key, (value.as_f64().expect("a number") + 0.0).to_bits());
            }
        }
    }
    (answer.status, error_of(&answer.text()), held)
}

/// Lines that both take, with what they hold of them; and lines that both refuse.
const SAME: &[&str] = &[
    "m v=1 1704110400000000000",
    "m,b=2,a=1 v=1.5,w=-3i,x=\"t\" 1704110400000000001",
    "  m  v=1  1704110400000000000  ",
    "\tm v=1 1704110400000000000",
    "# a comment\n\n  # another\nm v=1 1704110400000000000\n",
    "m v=1 1704110400000000000\nbad\nm v=2 1704110401000000000\nm,x v=1",
    r"m\,x\ y\=z,a\,b\ c\=d=e\,f\ g\=h i\,j\ k\=l\m=1 1704110400000000000",
    r"\ m \,v=1,\ w=2,\=x=3 1704110400000000000",
    "m v\\\"=1,\"w\"=2 1704110400000000000",
    "\"m\",a=\"b\" v=1 1704110400000000000",
    r"m,a=b\n v=1 1704110400000000000",
    r"m,a=b\ v=1 1704110400000000000",
    r"m,a=b\\,c=d v=1 1704110400000000000",
    r"m,a\=b v=1 1704110400000000000",
    r"m v=1\ 1704110400000000000",
    "m a=\"b c,d=e\\\"f\\\\\",v=1 1704110400000000000",
    "m a=\"b\nn v=1 2\n\",v=1 1704110400000000000\nm v=3 1704110403000000000",
    "m a=\"x\\\\\\\",v=2\" 1704110400000000000",
    "=a v=1 1704110400000000000",
    "m=a#,t=#b #=1 1704110400000000000",
    "é,ü=ö ß=1 1704110400000000000",
    "m a=t,b=T,c=true,d=True,e=TRUE,f=f,g=F,h=false,i=False,j=FALSE 1704110400000000000",
    "m v=1,v=2 1704110400000000000",
    "m b=1,a=2,b=3,c=4,a=5 1704110400000000000",
    "m v=.5,w=1.,x=-.5,y=01,z=00i,q=-0 1704110400000000000",
    "m v=1e5,w=1E5,x=1e+5,y=1e-5,z=1e-400 1704110400000000000",
    "m v=1.7976931348623157e308,w=5e-324,x=0.1,y=123456789012345678901234567890 1704110400000000000",
    "m v=9223372036854775807i,w=-9223372036854775808i,x=18446744073709551615 1704110400000000000",
    "m v=0.30000000000000004,w=2.2250738585072011e-308,x=9007199254740993 1704110400000000000",
    ",a=1 v=1 1",
    "m",
    "m,a=1",
    "m ",
    "m, v=1 1",
    "m,=1 v=1 1",
    "m,a=1, v=1 1",
    "m,a=1,,b=2 v=1 1",
    "m,a v=1 1",
    "m,a= v=1 1",
    "m,a=b=c v=1 1",
    "m,a=1,a=1 v=1 1",
    "m,a=1,b=2,a=3 v=1 1",
    "m v 1",
    "m v=1,w 1",
    "m v=1, 1",
    "m v=1,,w=2 1",
    "m =1 1",
    "m v=1,=2 1",
    "m v= 1",
    "m v=1,w=,x=2 1",
    "m ,v=1 1",
    "m v=1 1 2",
    "m v=1 1 x",
    "m v=tRUE 1",
    "m v=trueish 1",
    "m v=NaN 1",
    "m v=nan 1",
    "m v=Inf 1",
    "m v=-inf 1",
    "m v=+Inf 1",
    "m v=+1 1",
    "m v=- 1",
    "m v=. 1",
    "m v=-. 1",
    "m v=1.i 1",
    "m v=1e 1",
    "m v=1e+ 1",
    "m v=e5 1",
    "m v=1e5i 1",
    "m v=1i1 1",
    "m v=1.5.5 1",
    "m v=0x10 1",
    "m v=1_000 1",
    "m v=1-1 1",
    "m v=--1 1",
    "m v=9223372036854775808i 1",
    "m v=-9223372036854775809i 1",
    "m v=1e400 1",
    "m v=-1e400 1",
    "m v=1 +1",
    "m v=1 1.5",
    "m v=1 abc",
    "m v=1 1i",
    "m v=1 -",
    "m v=1 --1",
    "m v=1 1-1",
    "m v=1 1\t",
    "m v=1\t1",
    "m\tv=1 1",
    "m v=1 9223372036854775807",
    "m v=1 -9223372036854775807",
    "m v=1 9223372036854775808",
    "m v=a\"b\" 1",
    "m v=\"a\"w=1 1",
    "m v=\"a 1",
    "",
    "\n\n",
];

#[test]
fn the_same_lines_are_taken_and_refused_and_held_as_the_same() {
    let mut oracle = Oracle { server: start(), databases: 0 };
    let mut taken = 0;
    for body in SAME {
        let (status, error, held) = oracle.write("ns", body);
        taken += usize::from(!held.is_empty());
        let (our_status, our_error, our_held) = ours("ns", body);
        assert_eq!((our_status, &our_held), (status, &held), "{body:?}: {error:?}, ours: {our_error:?}");
        if body.starts_with("m v=1 1704110400000000000\nbad") {
            let told = "partial write: unable to parse 'bad': missing fields\n\
                        unable to parse 'm,x v=1': missing tag value dropped=";
            // It does not count lines that it could not read.
            assert_eq!((error.as_str(), our_error.as_str()), (&*format!("{told}0"), &*format!("{told}2")));
        }
    }
    assert!((20..SAME.len() / 2).contains(&taken), "some of both: {taken} of {}", SAME.len());
    for (precision, time) in [
        ("n", "1704110400000000000"),
        ("u", "1704110400000000"),
        ("ms", "1704110400000"),
        ("s", "1704110400"),
        ("s", "9223372037"),
        ("m", "28401840"),
        ("h", "473364"),
        ("h", "2562048"),
    ] {
        let body = format!("m v=1 {time}");
        let (status, _, held) = oracle.write(precision, &body);
        let (our_status, _, our_held) = ours(precision, &body);
        assert_eq!((our_status, our_held), (status, held), "{precision} {time}");
    }
}

/// Pieces that lines may be made of. All numbers are floats: influxd refuses a body in which a field has two types.
const PIECES: &[&str] = &[
    "m", "a", "b", ",", ",", ",", "=", "=", "=", " ", " ", "\\", "#", "é", "1.5", "-2", "1e3", "7", ".", "e",
    "-", "\t", ",a=b", ",c=d", " v=1", ",w=2", " a=", ",c=d", " v=1", ",w=2", " x=1.5", "\\,", "\\ ", "\\=",
];

#[test]
fn lines_of_random_pieces_are_held_as_the_same() {
    let mut oracle = Oracle { server: start(), databases: 0 };
    // xorshift: the same lines in every run.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |count: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % count as u64) as usize
    };
    let (mut values, mut lines) = (0, 0);
    for _ in 0..20 {
        let mut body = String::new();
        for time in 0..300 {
            let begins = ["m", "m,t=x", "n v=1", "", "m,t=x v=1", "m,t=x"][below(6)];
            let pieces: String = (0..below(6)).map(|_| PIECES[below(PIECES.len())]).collect();
            body.push_str(&format!("{begins}{pieces} {}\n", crate::running::NOON_NS + time));
            lines += 1;
        }
        let (status, error, held) = oracle.write("ns", &body);
        let (our_status, our_error, our_held) = ours("ns", &body);
        // Which of the lines that it could not read it tells in which words is not compared.
        assert_eq!(our_status, status, "{error}, ours: {our_error}");
        for (key, value) in &held {
            // We refuse control characters.
            let is_ours = !format!("{key:?}").contains("\\t");
            assert_eq!(our_held.get(key), Some(value).filter(|_| is_ours), "{key:?}: {body}");
        }
        let theirs = |key| held.contains_key(key);
        assert!(our_held.keys().all(theirs), "{:?}", our_held.keys().find(|key| !theirs(key)));
        values += our_held.len();
    }
    assert!(values > lines / 10, "{values} values of {lines} lines");
}

/// What we do differently, held here so that it stays known: body, its status, ours.
#[test]
fn the_differences_are_known() {
    let mut oracle = Oracle { server: start(), databases: 0 };
    for (body, status, our_status, why) in [
        ("m v=1 1704110400000000000\r\n", 400, 204, "we read lines with two characters at their ends"),
        ("m v=1u 1704110400000000000", 400, 204, "unsigned integers came with 2.x"),
        ("m v=\"a\"b,w=1 1704110400000000000", 204, 400, "something behind a quote"),
        ("m,a=\x01 v=1 1704110400000000000", 204, 400, "control characters in names"),
        ("m time=1 1704110400000000000", 400, 204, "a field of that name is not ours to lose"),
        ("m,time=a v=1 1704110400000000000", 400, 204, "nor a tag"),
        ("m v=1i 1704110400000000000\nm v=2 1704110401000000000", 400, 204, "all numbers are of one type"),
        (
            "m v=\"a 1\nm v=2 1704110401000000000",
            400,
            400,
            "behind a text without end: ours takes the second line",
        ),
    ] {
        assert_eq!(oracle.write("ns", body).0, status, "{body:?}: {why}");
        let (our_status_found, error, held) = ours("ns", body);
        assert_eq!(our_status_found, our_status, "{body:?}: {why}: {error}");
        assert_eq!(held.is_empty(), our_status == 400 && !body.contains("m v=2"), "{body:?}");
    }
}
