// Where in the page servers are: #fleet, #fleet/simulated, and one of them at #fleet/real/<id> or #fleet/simulated/<id>.

export const addressOf = (which, id = "") => `#fleet${id || which === "simulated" ? `/${which}` : ""}${id && `/${encodeURIComponent(id)}`}`;
