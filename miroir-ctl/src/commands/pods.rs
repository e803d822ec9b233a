//! `pods`: who is there, who leads, how far each has read.

use miroir_api::admin::PodsView;

use crate::client::Client;
use crate::error::{Code, CtlError};
use crate::output::{Cell, Output, Table, Tone};

pub(super) const PATH: &str = "/_miroir/pods";

pub(crate) async fn run(client: &Client, output: &mut Output) -> Result<Code, CtlError> {
    let answer = client.get(PATH).await?;
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    let pods: PodsView = answer.read()?;
    if pods.pods.is_empty() {
        output.line("one pod, which shares its state with nobody");
        return Ok(Code::Done);
    }
    let mut table = Table::new(&["POD", "LEADS", "ADDRESS", "BEHIND", "PROCESS"]);
    for pod in &pods.pods {
        let me = if pod.pod == pods.me { " (answers)" } else { "" };
        let behind = pod.epoch.map(|epoch| pods.epoch.saturating_sub(epoch));
        table.row([
            format!("{}{me}", pod.pod).into(),
            if pod.leads { Cell::new("yes", Tone::Good) } else { "".into() },
            pod.address.clone().into(),
            match behind {
                Some(0) => Cell::number(0),
                Some(changes) => Cell::new(changes, Tone::Doubtful),
                None => Cell::new("unknown", Tone::Doubtful),
            },
            pod.name.clone().into(),
        ]);
    }
    output.table(&table);
    if !pods.pods.iter().any(|pod| pod.leads) {
        output.marked("no pod leads", Tone::Bad, ": nothing can be changed until one does");
    }
    Ok(Code::Done)
}
