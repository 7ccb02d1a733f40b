//! Large pages for the heap.
//!
//! A million series are a gigabyte in small pieces, read in no order: with pages of 4 KiB a fifth of the CPU time goes
//! by looking up where they are. The C library asks for large pages when a variable tells it to before the process
//! begins (glibc 2.35, `glibc.malloc.hugetlb=1`: madvise, as far as the system's setting of transparent huge pages
//! goes), so the process begins a second time, with the variable. Elsewhere nothing comes of it.

use std::ffi::OsString;

const VARIABLE: &str = "GLIBC_TUNABLES";
const TUNABLE: &str = "glibc.malloc.hugetlb";

/// What the variable is to be, from what it is; nothing if it says already what it should.
fn with_tunable(before: Option<OsString>) -> Option<OsString> {
    let Some(before) = before.filter(|before| !before.is_empty()) else {
        return Some(format!("{TUNABLE}=1").into());
    };
    if before.to_string_lossy().contains(TUNABLE) {
        return None;
    }
    let mut both = before;
    both.push(format!(":{TUNABLE}=1"));
    Some(both)
}

/// Begins the process again with large pages, under the same number, unless it has them. Returns where that is not
/// possible; then it goes on without them.
pub fn enable() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if let Some(variable) = with_tunable(std::env::var_os(VARIABLE)) {
        use std::os::unix::process::CommandExt;
        let Ok(program) = std::env::current_exe() else { return };
        let mut arguments = std::env::args_os();
        let mut again = std::process::Command::new(program);
        if let Some(name) = arguments.next() {
            again.arg0(name);
        }
        let error = again.args(arguments).env(VARIABLE, variable).exec();
        tracing::warn!(%error, "no large pages");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_variable_says_already_stays() {
        for (before, after) in [
            (None, Some("glibc.malloc.hugetlb=1")),
            (Some(""), Some("glibc.malloc.hugetlb=1")),
            (Some("glibc.malloc.arena_max=2"), Some("glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1")),
            (Some("glibc.malloc.hugetlb=0"), None),
            (Some("glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"), None),
        ] {
            assert_eq!(with_tunable(before.map(Into::into)), after.map(Into::into), "{before:?}");
        }
    }
}
