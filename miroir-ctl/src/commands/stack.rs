//! `stack`: the layers of every stage.

use miroir_api::admin::StackView;

use crate::client::Client;
use crate::error::{Code, CtlError};
use crate::output::{Output, Tone};

pub(crate) async fn run(client: &Client, output: &mut Output) -> Result<Code, CtlError> {
    let answer = client.get("/_miroir/stack").await?;
    if output.json() {
        output.raw(&answer);
        return Ok(Code::Done);
    }
    let stack: StackView = answer.read()?;
    for stage in &stack.stages {
        output.marked(&stage.stage, Tone::Heading, "");
        for layer in &stage.layers {
            output.line(&format!("  {layer}"));
        }
    }
    Ok(Code::Done)
}
