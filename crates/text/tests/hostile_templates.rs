//! Templates that want too much: each must end with an error, soon, on the small stack of a test thread.

use porism_text::{ChatTemplate, Error, Message};

fn render(source: &str) -> Result<String, Error> {
    ChatTemplate::new(source, "<s>", "</s>")?.render(&[Message::new("user", "hi")], true, None)
}

/// `body` many times over, with a namespace `ns` whose `s` and `t` start as given.
fn repeated(start: &str, times: usize, body: &str, end: &str) -> String {
    format!("{{% set ns = namespace(s={start}, t={start}) %}}{{% for i in range({times}) %}}{body}{{% endfor %}}{end}")
}

#[test]
fn what_grows_without_end_is_stopped() {
    let twice = "{% set ns.s = [ns.s, ns.s] %}{% set ns.t = [ns.t, ns.t] %}";
    let deeper = "{% set ns.s = [ns.s] %}{% set ns.t = [ns.t] %}";
    let mut templates = vec![
        repeated("'ab'", 60, "{% set ns.s = ns.s ~ ns.s %}", "{{ ns.s | length }}"),
        repeated("[1, 2]", 60, "{% set ns.s = ns.s + ns.s %}", "{{ ns.s | length }}"),
        repeated("[1, 2]", 60, "{% set ns.s = ns.s * 9 %}", "{{ ns.s | length }}"),
        repeated("{}", 9999, "{% set ns.s = {'a': ns.s} %}", "{{ ns.s }}"),
        repeated("range(9)", 99_999, "{% set ns.s = ns.s[1:] %}", "{{ ns.s | list }}"),
        repeated("[1]", 99_999, "{% set ns.s = ns.s | map('string') %}", "{{ ns.s | list }}"),
        repeated("[1]", 9999, "{% set ns.s = ns.s | batch(1) | list %}", "{{ ns.s }}"),
        repeated("1", 1, "{% set ns.s = ns %}", "{{ ns }}"),
        repeated("1", 1, "{% set ns.s = [{'a': ns}] %}", "{{ ns }}"),
        repeated("1", 1, "{% set ns.s = namespace(a=ns) %}", "{{ ns.s }}"),
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}{% endfor %}{% endfor %}".into(),
        "{{ range(1000000000000) | list }}".into(),
        "{{ 'x' * 100000000000 }}".into(),
        "{{ ([1] * 100000000000) | length }}".into(),
        "{{ 'a\nb' | indent(1000000000) }}".into(),
        "{{ [1] | batch(1000000000, 1) | list }}".into(),
        "{{ '{:>1000000000}'.format('x') }}".into(),
        "{{ '{:.1000000000f}'.format(1.5) }}".into(),
        "{{ '%1000000000d' | format(1) }}".into(),
        "{{ ('x' * 100000) | replace('x', 'y' * 100000) }}".into(),
        "{{ ('x' * 100000).replace('x', 'y' * 100000) }}".into(),
        "{{ range(99999) | join('x' * 1000000) }}".into(),
        "{{ strftime_now('%Y' * 1000) }}".into(),
        "{{ 1 | tojson(indent=1000000000) }}".into(),
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}".into(),
        "{% macro f(x) %}{{ f([x, x]) }}{{ f([x, x]) }}{% endmacro %}{{ f(0) }}".into(),
        "{% for x in [[1]] recursive %}{{ loop([x]) }}{% endfor %}".into(),
        "{% block a %}{{ self.a() }}{% endblock %}".into(),
        "{% include 'chat' %}".into(),
        "{% extends 'chat' %}".into(),
        "{{ 1 // 0 }}".into(),
        "{{ 2 ** 1000000000000 }}".into(),
        "{% set s = '1' * 1000000 %}{% for i in range(99999) %}{% set x = s.isdigit() %}{% endfor %}".into(),
    ];
    let ends = [
        "{{ ns.s }}",
        "{{ ns.s == ns.t }}",
        "{{ ns.s in [ns.t] }}",
        "{{ ns.s | string | length }}",
        "{{ ns.s ~ 'a' }}",
        "{{ ns.s | tojson }}",
        "{{ [ns.s, ns.t] | sort }}",
        "{{ [ns.s, ns.t] | unique | list }}",
        "{{ {ns.s: 1}[ns.t] }}",
        "{{ raise_exception(ns.s) }}",
    ];
    for end in ends {
        templates.push(repeated("[]", 60, twice, end));
        templates.push(repeated("[]", 30_000, deeper, end));
    }
    let nested: String = (0..40).map(|i| format!("{{% for a{} in [[a{i}, a{i}]] %}}", i + 1)).collect();
    templates.push(format!("{{% set a0 = 1 %}}{nested}{{{{ a40 }}}}{}", "{% endfor %}".repeat(40)));
    for template in templates {
        let short = &template[..template.len().min(150)];
        assert!(matches!(render(&template), Err(Error::Template { line: Some(_), .. })), "{short}");
    }
}

#[test]
fn long_chains_of_source_are_refused() {
    let expression = |piece: &str| format!("{{{{ 1{} }}}}", piece.repeat(100_000));
    for template in [
        expression("+1"),
        expression("~1"),
        expression("**1"),
        expression(".a"),
        expression("()"),
        expression("|trim"),
        expression(" and 1"),
        expression(" < 1"),
        expression(" is defined"),
        format!("{{{{ {}1 }}}}", "-".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(100_000)),
        format!("{{{{ {}1 }}}}", "1 if 0 else ".repeat(80_000)),
        format!("{{{{ {}", "(".repeat(100_000)),
        format!("{{{{ {}", "-".repeat(100_000)),
        format!("{{{{ {}{} }}}}", "[".repeat(50_000), "]".repeat(50_000)),
        format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(80_000)),
        "{% if 1 %}".repeat(80_000),
        "x".repeat(2_000_000),
    ] {
        let short = &template[..40];
        assert!(matches!(render(&template), Err(Error::Template { .. })), "{short}");
    }
    // Ten times what real templates have is still well within the stack.
    let ok = format!("{{{{ 0{} }}}}", "+1".repeat(490));
    assert_eq!(render(&ok).unwrap(), "490");
}

#[test]
fn broken_templates_say_the_line() {
    for (source, line, want) in [
        ("a\n{{ b", 2, "unexpected end of input"),
        ("a\n\n{% if %}", 3, "syntax error"),
        ("{% for a in b %}", 1, "unexpected end of input"),
        ("{{ 'a }}", 1, "unexpected end of string"),
        ("a\n{{ raise_exception('Sorry, ' + messages[0].role) }}", 2, "Sorry, user"),
        ("a\n{{ nothing.more }}", 2, "undefined"),
        ("a\n{{ 'x' | nothing }}", 2, "nothing"),
        ("{{ messages[0].nothing() }}", 1, "nothing"),
    ] {
        match render(source) {
            Err(Error::Template { line: Some(found), message }) => {
                assert_eq!(found, line, "{source}: {message}");
                assert!(message.contains(want), "{source}: {message}");
            }
            other => panic!("{source}: {other:?}"),
        }
    }
}

#[test]
fn a_long_chat_is_not_taken_for_an_attack() {
    let source = "{% set ns = namespace(seen=[]) %}{% for m in messages %}{% set ns.seen = ns.seen + [m.role] %}\
        {{ '<|im_start|>' + m.role + '\n' + m.content | trim + '<|im_end|>\n' }}{% endfor %}{{ ns.seen | length }}";
    let template = ChatTemplate::new(source, "", "").unwrap();
    let messages = vec![Message::new("user", "word ".repeat(200)); 2000];
    let text = template.render(&messages, true, None).unwrap();
    assert!(text.ends_with("<|im_end|>\n2000"));
    let one = [Message::new("user", "word ".repeat(2_000_000))];
    assert!(template.render(&one, true, None).unwrap().len() > 9_000_000);
}
