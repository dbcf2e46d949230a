// What Microsoft's parser of Adaptive Cards complains of. Argument: a list of cards as JSON.
const { AdaptiveCard, SerializationContext, Versions } = require("adaptivecards/dist/adaptivecards.js");

const found = JSON.parse(process.argv[2]).map((json) => {
  const context = new SerializationContext(Versions.v1_4);
  const card = new AdaptiveCard();
  card.parse(json, context);
  const complaints = Array.from({ length: context.eventCount }, (_, at) => context.getEventAt(at).message);
  return { complaints: [...complaints, ...card.validateProperties().validationEvents.map((each) => each.message)], items: card.getItemCount() };
});
console.log(JSON.stringify(found));
