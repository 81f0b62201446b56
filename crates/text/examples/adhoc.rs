//! ad hoc
#![allow(clippy::all, missing_docs, clippy::print_stdout)]
use porism_text::*;
use serde_json::Value;
fn main() {
    let d: Value = serde_json::from_str(&std::fs::read_to_string(std::env::args().nth(1).unwrap()).unwrap()).unwrap();
    let chats: Vec<Chat> = serde_json::from_value(d["chats"].clone()).unwrap();
    let (mut ok, mut bad) = (0, 0);
    for c in d["cases"].as_array().unwrap() {
        let name = c["template"].as_str().unwrap();
        let src = d["templates"][name].as_str().unwrap();
        let chat = &chats[c["chat"].as_u64().unwrap() as usize];
        let r = ChatTemplate::new(src, d["bos"].as_str().unwrap(), d["eos"].as_str().unwrap()).and_then(|t| {
            t.with_time(LocalTime { unix_seconds: 1770091506, utc_offset: 0 }).render(
                &chat.messages,
                c["add_generation_prompt"].as_bool().unwrap(),
                chat.tools.as_ref(),
            )
        });
        let same = match (&r, c.get("text")) {
            (Ok(a), Some(b)) => a == b.as_str().unwrap(),
            (Err(_), None) => true,
            _ => false,
        };
        if same {
            ok += 1;
            if let Err(e) = &r {
                println!("ERR same {name} {} : {e} | {}", c["chat"], c["error"]);
            }
        } else {
            bad += 1;
            println!("DIFF {name} chat {} gen {}", c["chat"], c["add_generation_prompt"]);
            match (&r, c.get("text")) {
                (Ok(a), Some(b)) => {
                    let b = b.as_str().unwrap();
                    let i = a.bytes().zip(b.bytes()).position(|(x, y)| x != y).unwrap_or(a.len().min(b.len()));
                    let s = |t: &str| {
                        String::from_utf8_lossy(&t.as_bytes()[i.saturating_sub(40)..(i + 60).min(t.len())]).into_owned()
                    };
                    println!("   ours {:?}\n theirs {:?}", s(a), s(b));
                }
                (Err(e), _) => println!("   ours {e}"),
                (Ok(a), None) => {
                    println!("   theirs err {} ours {:?}", c["error"], &a.chars().take(100).collect::<String>())
                }
            }
        }
    }
    println!("{ok} same, {bad} differ");
}
