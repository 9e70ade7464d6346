// Start of the page that `espalier rate` serves.

async function startServedRating() {
  const trouble = byId("rating-trouble");
  const tell = (text) => {
    trouble.hidden = !text;
    if (trouble.textContent !== (text ?? "")) trouble.textContent = text ?? "";
  };
  const ratings = new RemoteRatings(tell);
  const desk = new RatingDesk(byId("rating-desk"), ratings);
  try {
    const late = await ratings.sendPending();
    await desk.start();
    if (late) desk.say(t("rating.sent_late"));
  } catch (error) {
    tell(t("rating.failed", { why: error.message }));
  }
}

startWhenReady(startServedRating);
