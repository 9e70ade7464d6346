// Start of the page of a sweep.

async function startSweepPage(core, first) {
  startCopying();
  startAnswer(core);
  startSweep(core);
  startRunCurves(core);
  if (first && state.at) showSection(state.at);
  await startExamples(core);
  if (first && state.at) revealSection(state.at);
}

startWhenReady(startSweepPage, watchAddress, startExampleKeys);
