//! Commands and flags. They are a contract: none is taken away or changes its meaning in a minor
//! version.

mod elastic;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use elastic::{Begin, Group, Member, Node, Operation, Topology};

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  done, and something is wrong: findings of `check`, a failed task, a bad configuration, a change
     of the topology that cannot begin or was rolled back
  2  the command line is wrong
  3  no connection: refused, unknown host, TLS, time out, or not a Miroir
  4  the key is missing or wrong
  5  the server refused or failed
  6  not finished in time (`task wait`)

The operators' key is that of MIROIR_ADMIN_API_KEY, else of ~/.config/miroir/credentials, else of
--admin-key. It opens the admin API and nothing else: `task list`, `task cancel`, `explain` and parts
of `check` need a client's key too, that of MIROIR_CLIENT_KEY or MIROIR_MASTER_KEY, else of the file,
else of --client-key.
Every command with examples: docs/miroir-ctl.md";

/// Where examples are.
const PAGE: &str = "What to do about what it shows: docs/miroir-ctl.md, docs/operations.md";

/// Where comparisons of replicas are told of.
const ENTROPY: &str = "What is compared, when, and who is right: docs/anti-entropy.md";
/// Where changes of the topology are told of.
const ELASTIC: &str = "What happens when shards move, and what to do about it: docs/elastic.md";

/// Looks after a Miroir cluster, over its admin API.
#[derive(Clone, Debug, Parser)]
#[command(name = "miroir-ctl", version, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    pub(crate) connection: Connection,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where the server is and how to speak to it.
#[derive(Clone, Debug, Args)]
pub(crate) struct Connection {
    /// Address of a Miroir. Default: `url` of the credentials file, else http://127.0.0.1:7700.
    #[arg(
        long,
        short,
        global = true,
        value_name = "URL",
        env = "MIROIR_URL",
        hide_env_values = true
    )]
    pub(crate) url: Option<String>,

    /// The operators' key. Other users see it in the list of processes: prefer
    /// MIROIR_ADMIN_API_KEY or the credentials file, which win over this flag.
    #[arg(long, global = true, value_name = "KEY", hide_env_values = true)]
    pub(crate) admin_key: Option<String>,

    /// A client's key, for what the client API answers: `task list`, `task cancel`, `explain`, and
    /// parts of `check`. MIROIR_CLIENT_KEY, MIROIR_MASTER_KEY and the credentials file win over it.
    #[arg(long, global = true, value_name = "KEY", hide_env_values = true)]
    pub(crate) client_key: Option<String>,

    /// TOML with `admin_api_key`, `client_key` and `url`. Default: ~/.config/miroir/credentials.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "MIROIR_CREDENTIALS",
        hide_env_values = true
    )]
    pub(crate) credentials: Option<PathBuf>,

    /// Print what the server says as it says it.
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// How long one request may take.
    #[arg(long, global = true, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub(crate) timeout: Duration,

    /// Certificates (PEM) to trust instead of the public ones.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "MIROIR_CA_FILE",
        hide_env_values = true
    )]
    pub(crate) ca_file: Option<PathBuf>,

    /// Certificate (PEM) to show to a server that asks for one; `--key-file` has its key.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "MIROIR_CERT_FILE",
        hide_env_values = true,
        requires = "key_file"
    )]
    pub(crate) cert_file: Option<PathBuf>,

    /// Key (PEM) of the certificate of `--cert-file`.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "MIROIR_KEY_FILE",
        hide_env_values = true,
        requires = "cert_file"
    )]
    pub(crate) key_file: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a number of seconds above 0");
    let number: f64 = text.trim_end_matches('s').parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number).ok().filter(|time| !time.is_zero()).ok_or_else(wrong)
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    /// Shows in a few lines whether the cluster is well.
    #[command(after_help = PAGE)]
    Status,
    /// Looks for what is wrong, and says what to do about it. Exits with 1 if it finds something.
    #[command(after_help = PAGE)]
    Check,
    /// Lists nodes, groups and what each holds; sets how many copies of a shard there are; decides
    /// about a store that is behind its nodes.
    #[command(after_help = ELASTIC)]
    Topology {
        /// What to decide; lists without.
        #[command(subcommand)]
        verb: Option<Topology>,
    },
    /// Lists replicas that missed a write and are not read.
    Replicas,
    /// Shows what comparisons of replicas found; compares all now.
    #[command(subcommand, after_help = ENTROPY)]
    Entropy(Entropy),
    /// Adds nodes, drains, replaces and removes them; decides what becomes of a foreign disk.
    #[command(subcommand, after_help = ELASTIC)]
    Node(Node),
    /// Adds and removes replica groups.
    #[command(subcommand, after_help = ELASTIC)]
    Group(Group),
    /// Shows changes of the topology, follows them, pauses and takes them back.
    #[command(subcommand, after_help = ELASTIC)]
    Operation(Operation),
    /// Lists the pods of this Miroir.
    Pods,
    /// Shows the layers of every stage in their order.
    Stack,
    /// Shows tasks, waits for them, cancels them.
    #[command(subcommand)]
    Task(Task),
    /// Checks a configuration with the server's own eyes.
    #[command(subcommand)]
    Config(Config),
    /// Shows what shadows answered differently.
    #[command(subcommand)]
    Shadow(Shadow),
    /// Shows how a search would be carried out.
    Explain(Explain),
    /// Shows and changes aliases of indexes.
    #[command(subcommand)]
    Alias(Alias),
    /// Shows and changes which API key belongs to which tenant.
    #[command(subcommand)]
    Tenant(Tenant),
    /// Prints completions for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Prints the manual page, or writes one for every command.
    Man {
        /// Write the pages into this directory.
        #[arg(long, value_name = "DIRECTORY")]
        directory: Option<PathBuf>,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Entropy {
    /// Shows the passes over all documents, and what differed.
    Status,
    /// Begins a pass over all documents now.
    Run,
    /// Lists documents as they were before a repair overwrote or deleted them, for a day.
    Kept,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Task {
    /// Shows one task and what of it happens on which node.
    #[command(visible_alias = "status")]
    Get {
        /// Uid, also as `mtask-7`.
        uid: Uid,
    },
    /// Lists tasks, newest first.
    List(TaskFilter),
    /// Waits until tasks have ended. Exits with 1 if one failed or was canceled, with 6 if one did
    /// not end in time.
    Wait {
        /// Uids.
        #[arg(required = true)]
        uids: Vec<Uid>,
        /// How long to wait for all of them.
        #[arg(long = "for", value_name = "SECONDS", default_value = "60", value_parser = seconds)]
        patience: Duration,
    },
    /// Cancels tasks that have not ended.
    Cancel {
        /// Uids.
        #[arg(required = true)]
        uids: Vec<Uid>,
    },
}

/// The uid of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Uid(pub(crate) u32);

impl std::str::FromStr for Uid {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("mtask-").unwrap_or(text);
        digits
            .parse()
            .map(Self)
            .map_err(|_| "uids are numbers, for example 7 or mtask-7".to_owned())
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct TaskFilter {
    /// Only with one of these statuses.
    #[arg(long, value_delimiter = ',')]
    pub(crate) status: Vec<Status>,
    /// Only about one of these indexes.
    #[arg(long, value_delimiter = ',')]
    pub(crate) index: Vec<String>,
    /// Only of these types, for example `documentDeletion`.
    #[arg(long = "type", value_delimiter = ',', value_name = "TYPE")]
    pub(crate) kind: Vec<String>,
    /// How many.
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: u32,
    /// Begin with this uid.
    #[arg(long)]
    pub(crate) from: Option<Uid>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Status {
    Enqueued,
    Processing,
    Succeeded,
    Failed,
    Canceled,
}

impl Status {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Enqueued => "enqueued",
            Self::Processing => "processing",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Config {
    /// Says whether a file is a valid configuration.
    Check(ConfigFile),
    /// Prints the effective configuration, secrets redacted.
    Show(ConfigFile),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ConfigFile {
    /// YAML under a top-level `miroir:`.
    pub(crate) file: PathBuf,
    /// The server to ask. Default: miroir-server beside this program, else of the path.
    #[arg(long, value_name = "PROGRAM", env = "MIROIR_SERVER", hide_env_values = true)]
    pub(crate) server: Option<PathBuf>,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Shadow {
    /// Lists the differences that the answering pod remembers, and counts.
    Diff(ShadowDiff),
}

#[derive(Clone, Debug, Args)]
pub(crate) struct ShadowDiff {
    /// Only of this target.
    #[arg(long)]
    pub(crate) target: Option<String>,
    /// Only of this kind.
    #[arg(long)]
    pub(crate) kind: Option<Kind>,
    /// How many, at most 1000.
    #[arg(long, default_value_t = 20)]
    pub(crate) limit: u32,
    /// Only with ids above this one, oldest first.
    #[arg(long, value_name = "ID")]
    pub(crate) since: Option<u64>,
    /// Go on printing what is found, until interrupted.
    #[arg(long)]
    pub(crate) follow: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    Hits,
    Ranking,
    Latency,
    Error,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hits => "hits",
            Self::Ranking => "ranking",
            Self::Latency => "latency",
            Self::Error => "error",
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(crate) struct Explain {
    /// Index or alias.
    pub(crate) index: String,
    /// What is searched for.
    #[arg(long, short)]
    pub(crate) query: Option<String>,
    /// A filter.
    #[arg(long)]
    pub(crate) filter: Option<String>,
    /// The body of the search: a file with JSON, `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) body: Option<PathBuf>,
    /// Carry the search out, too.
    #[arg(long)]
    pub(crate) execute: bool,
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Alias {
    /// Lists aliases, with their kind and who manages them.
    List,
    /// Shows one alias and where it pointed before.
    Get {
        /// Its name.
        name: String,
    },
    /// Makes an alias of one index, or of several that are read together.
    Create {
        /// Its name.
        name: String,
        /// The index; several make an alias that can only be read.
        #[arg(required = true)]
        targets: Vec<String>,
    },
    /// Points an alias somewhere else, in one step.
    #[command(visible_alias = "flip")]
    Set {
        /// Its name.
        name: String,
        /// The index, or the indexes of an alias of several.
        #[arg(required = true)]
        targets: Vec<String>,
    },
    /// Deletes an alias. The index stays.
    Delete {
        /// Its name.
        name: String,
    },
}

#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Tenant {
    /// Lists tenants by the hash of their key.
    List,
    /// Says that who comes with this key is this tenant.
    Add {
        /// The API key; only its hash is kept. `-` reads it from standard input, so that it is not
        /// in the list of processes.
        #[arg(long)]
        api_key: String,
        /// The tenant.
        #[arg(long)]
        tenant: String,
        /// The replica group that answers the tenant; without it a hash of the tenant decides.
        #[arg(long)]
        group: Option<u32>,
    },
    /// Forgets a key.
    Remove {
        /// The API key, or `-` to read it from standard input.
        #[arg(long, required_unless_present = "hash")]
        api_key: Option<String>,
        /// Its hash, as `list` shows it.
        #[arg(long, conflicts_with = "api_key")]
        hash: Option<String>,
    },
}
