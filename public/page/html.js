// What panels are written with. The one place that names the vendored file.
export { html, render, useEffect, useLayoutEffect, useRef, useState } from "/vendor/htm-preact-3.1.1.js";
