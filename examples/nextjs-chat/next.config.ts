import type { NextConfig } from "next";

// The folder lies in a larger repository: nothing above it belongs to the application.
const config: NextConfig = { turbopack: { root: __dirname } };

export default config;
