use super::Suite; impl Suite { pub(super) async fn subscribers(&mut self) -> anyhow::Result<()> { Ok(()) } }
