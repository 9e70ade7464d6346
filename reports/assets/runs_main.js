// Start of the page about several runs.

async function startRuns(core, first) {
  startCopying();
  startChanges(core);
  startRunScores(core);
  startSweep(core);
  startRunCurves(core);
  if (first && state.at) showSection(state.at);
  await startExamples(core);
  if (first && state.at) revealSection(state.at);
}

startWhenReady(startRuns, watchAddress, startExampleKeys);
