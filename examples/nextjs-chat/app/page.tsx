import { Chat } from "./chat";

// The address is read when the page is asked for, so that one build serves every deployment.
export const dynamic = "force-dynamic";

export default function Page() {
  const breakwater = process.env.BREAKWATER_URL ?? "http://127.0.0.1:3000";
  return (
    <main>
      <h1>Chat behind Breakwater</h1>
      <Chat api={`${breakwater}/api/ai/supervisor`} />
    </main>
  );
}
