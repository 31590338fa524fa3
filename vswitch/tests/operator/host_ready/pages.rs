//! Completion scripts and manual pages, as bash and groff take them.

use super::*;

const PROGRAMS: [(&str, &str); 2] = [("vswitchctl", VSWITCHCTL), ("vswitchd", VSWITCHD)];

#[test]
fn bash_completes() {
    let dir = tempfile::tempdir().unwrap();
    for (name, program) in PROGRAMS {
        let output = run(program, &["completion", "bash"]);
        assert!(output.status.success());
        let script = dir.path().join(name);
        fs::write(&script, output.stdout).unwrap();
        let path = script.to_str().unwrap();
        let parsed = run("bash", &["-n", path]);
        assert!(
            parsed.status.success() && parsed.stderr.is_empty(),
            "{parsed:?}"
        );
    }
    let completed = |name: &str, words: &[&str]| {
        let script = format!(
            "source {}; COMP_WORDS=({name} {}); COMP_CWORD={}; _{name} {name} '{}' '{}'; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            dir.path().join(name).display(),
            words
                .iter()
                .map(|w| format!("'{w}'"))
                .collect::<Vec<_>>()
                .join(" "),
            words.len(),
            words.last().unwrap(),
            words.iter().rev().nth(1).unwrap_or(&name),
        );
        let output = run("bash", &["-c", &script]);
        assert!(output.stderr.is_empty(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(completed("vswitchctl", &["doc"]), ["doctor"]);
    let parts = completed("vswitchctl", &["show", ""]);
    for part in ["ports", "vns", "fdb", "tunnels", "sas", "workers", "drops"] {
        assert!(parts.iter().any(|p| p == part), "{part}: {parts:?}");
    }
    assert_eq!(completed("vswitchctl", &["show", "wor"]), ["workers"]);
    assert_eq!(completed("vswitchd", &["che"]), ["check"]);
}

#[test]
fn other_shells_have_their_scripts() {
    for (shell, mark) in [
        ("zsh", "#compdef vswitchctl"),
        ("fish", "complete -c vswitchctl"),
    ] {
        let output = run(VSWITCHCTL, &["completion", shell]);
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success());
        assert!(
            script.contains(mark) && script.contains("tunnels"),
            "{shell}"
        );
    }
}

#[test]
fn manual_pages_render() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().join("man1");
    for (name, program) in PROGRAMS {
        let output = run(program, &["man", "--dir", at.to_str().unwrap()]);
        assert!(output.status.success(), "{output:?}");
        assert!(at.join(format!("{name}.1")).exists());
    }
    let mut pages = 0;
    for entry in fs::read_dir(&at).unwrap() {
        let path = entry.unwrap().path();
        // Without overstriking and colours, which are how a terminal gets bold letters.
        let options = ["-man", "-Tutf8", "-ww", "-P-cbou", path.to_str().unwrap()];
        let output = run("groff", &options);
        let text = String::from_utf8_lossy(&output.stdout);
        let complaints = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success() && complaints.is_empty(),
            "{path:?}: {complaints}"
        );
        assert!(
            text.contains("NAME") && text.contains("SYNOPSIS"),
            "{path:?}: {text}"
        );
        pages += 1;
    }
    assert!(pages > 10, "{pages}");
    let page = fs::read_to_string(at.join("vswitchctl-doctor.1")).unwrap();
    assert!(page.contains("must be mended"), "{page}");
}
