// Start of the page about data.

async function startDataPage(core, first) {
  await startData({ atOnce: true });
  if (first && state.at) showSection(state.at);
}

startWhenReady(startDataPage, watchAddress);
