#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use super::*;

macro_rules! conf {
    ($name:literal) => {
        include_str!(concat!("../../../../tests/fixtures/ossec/", $name, ".conf"))
    };
}

/// The new text and the line of the block; what was there is still there, around the block.
fn done(text: &str) -> (String, usize) {
    let Insertion::Done { text: new, line } = insert_block(text) else {
        panic!("nothing was inserted: {:?}", insert_block(text));
    };
    let head = text
        .bytes()
        .zip(new.bytes())
        .take_while(|(old, new)| old == new)
        .count();
    let added = new.len() - text.len();
    let rest = format!("{}{}", &new[..head], &new[head + added..]);
    assert_eq!(rest, text, "what was there has changed");
    (new, line)
}

/// The lines from the one before the block to the one after it, with visible line ends.
fn around(new: &str, line: usize) -> Vec<String> {
    new.split_inclusive('\n')
        .skip(line - 2)
        .take(BLOCK.lines().count() + 2)
        .map(|line| {
            line.replace('\r', "\\r")
                .replace('\t', "\\t")
                .replace('\n', "\\n")
        })
        .collect()
}

#[test]
fn in_real_shaped_files() {
    for (name, text, before, first, second, last, after) in [
        (
            "two roots: into the last",
            conf!("manager-two-roots"),
            "\\n",
            "  <wodle name=\"command\">\\n",
            "    <disabled>no</disabled>\\n",
            "  </wodle>\\n",
            "</ossec_config>\\n",
        ),
        (
            "an agent, a comment at the end",
            conf!("agent"),
            "  </logging>\\n",
            "  <wodle name=\"command\">\\n",
            "    <disabled>no</disabled>\\n",
            "  </wodle>\\n",
            "</ossec_config>\\n",
        ),
        (
            "a block and an end tag in comments",
            conf!("commented-out"),
            "  <!-- </ossec_config> -->\\n",
            "  <wodle name=\"command\">\\n",
            "    <disabled>no</disabled>\\n",
            "  </wodle>\\n",
            "</ossec_config>\\n",
        ),
        (
            "other wodles, no final newline",
            conf!("other-wodles-no-final-newline"),
            "  </office365>\\n",
            "  <wodle name=\"command\">\\n",
            "    <disabled>no</disabled>\\n",
            "  </wodle>\\n",
            "</ossec_config>",
        ),
        (
            "CRLF and a byte order mark",
            conf!("crlf-bom"),
            "\\r\\n",
            "  <wodle name=\"command\">\\r\\n",
            "    <disabled>no</disabled>\\r\\n",
            "  </wodle>\\r\\n",
            "</ossec_config>\\r\\n",
        ),
        (
            "tabs",
            conf!("tabs"),
            "\\t</logging>\\n",
            "\\t<wodle name=\"command\">\\n",
            "\\t\\t<disabled>no</disabled>\\n",
            "\\t</wodle>\\n",
            "</ossec_config>\\n",
        ),
        (
            "entities, CDATA, declaration, tags that share lines",
            conf!("entities"),
            "    <labels><label key=\"site\">Zürich — “Süd”</label></labels>\\n",
            "    <wodle name=\"command\">\\n",
            "        <disabled>no</disabled>\\n",
            "    </wodle>\\n",
            "</ossec_config>\\n",
        ),
        (
            "an empty root",
            conf!("empty-root"),
            "<ossec_config>\\n",
            "  <wodle name=\"command\">\\n",
            "    <disabled>no</disabled>\\n",
            "  </wodle>\\n",
            "</ossec_config>\\n",
        ),
    ] {
        let (new, line) = done(text);
        let lines = around(&new, line);
        let shown: Vec<_> = [0, 1, 2, lines.len() - 2, lines.len() - 1]
            .into_iter()
            .map(|at| lines.get(at).unwrap().as_str())
            .collect();
        let expected = [before, first, second, last, after];
        assert_eq!(shown, expected, "{name}");
        let again = insert_block(&new);
        let is_disabled = false;
        assert_eq!(
            again,
            Insertion::Present { line, is_disabled },
            "{name}: a second time"
        );
        let roots = |text: &str| text.matches("<ossec_config").count();
        assert_eq!(roots(&new), roots(text), "{name}: no new root");
    }
}

#[test]
fn a_root_without_end_tag_gets_one() {
    let Insertion::Done { text, line: 2 } = insert_block(conf!("empty-root-one-tag")) else {
        panic!("nothing was inserted");
    };
    assert!(
        text.starts_with("<ossec_config>\n  <wodle name=\"command\">\n    <disabled>"),
        "{text}"
    );
    assert!(text.ends_with("\n  </wodle>\n</ossec_config>\n"), "{text}");
    assert!(matches!(
        insert_block(&text),
        Insertion::Present { line: 2, .. }
    ));
    let both = format!("{}{}", conf!("agent"), conf!("empty-root-one-tag"));
    assert!(
        done(&both).0.ends_with("<ossec_config />\n"),
        "the one with content is preferred"
    );
}

#[test]
fn what_is_there_stays_alone() {
    let line = |text: &str, of: &str| text[..text.find(of).unwrap()].matches('\n').count() + 1;
    let tagged = conf!("present-by-tag");
    assert_eq!(
        insert_block(tagged),
        Insertion::Present {
            line: line(tagged, "<tag>o365-wodle") - 2,
            is_disabled: true
        }
    );
    let named = conf!("present-by-command");
    assert_eq!(
        insert_block(named),
        Insertion::Present {
            line: line(named, "<tag>o365-audit") - 1,
            is_disabled: false
        }
    );
    let through = named.replace(
        "\"/usr/local/bin/o365-wodle\"",
        "/usr/bin/setpriv --reuid=o365-wodle /usr/bin/o365-wodle",
    );
    assert!(matches!(insert_block(&through), Insertion::Present { .. }));
}

#[test]
fn what_does_not_parse_is_not_touched() {
    for (text, why) in [
        ("", "there is no <ossec_config> in it"),
        (
            "<agent_config>\n</agent_config>\n",
            "there is no <ossec_config> in it",
        ),
        (
            "<!-- <ossec_config></ossec_config> -->",
            "there is no <ossec_config> in it",
        ),
        (
            "<ossec_config>\n  <global>\n</ossec_config>\n",
            "it does not read as XML",
        ),
        (
            "<ossec_config>\n  <a>b < c</a>\n</ossec_config>\n",
            "it does not read as XML",
        ),
        (
            "<ossec_config>\n</ossec_config>\n<!-- open",
            "it does not read as XML",
        ),
        (
            "<ossec_config>\n</ossec_config>\n</ossec_config>\n",
            "it does not read as XML (</ossec_config> at 3:1 ends nothing)",
        ),
        (
            "<ossec_config>\n",
            "it does not read as XML (<ossec_config> has no end)",
        ),
    ] {
        let Insertion::Refused(said) = insert_block(text) else {
            panic!("{text:?} was taken");
        };
        assert!(said.starts_with(why), "{text:?}: {said}");
    }
}

#[test]
fn nothing_in_the_block_is_taken_for_the_built_in_module() {
    assert!(!BLOCK.contains("office365"));
    assert!(BLOCK.contains("<command>/usr/bin/o365-wodle run</command>"));
}
