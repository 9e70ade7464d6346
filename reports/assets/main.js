// Start of the page of a run.

async function startRun(core, first) {
  startCopying();
  if (core.summary) startOverview(core.summary);
  startTraining(core.curves);
  await startData({ prompts: core.lineage });
  if (first && state.at) showSection(state.at);
  await startExamples(core);
  // What stands above has its height only now.
  if (first && state.at) revealSection(state.at);
  await startRating(core);
}

startWhenReady(startRun, watchAddress, startExampleKeys);
