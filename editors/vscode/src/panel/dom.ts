// Elements in one expression, always from text: nothing here parses HTML.

type Child = Node | string | null | undefined | false;
type Attributes = { readonly [name: string]: string | number | boolean | null | undefined };

/** An element; attributes that are null, undefined or false are left out, true ones are empty. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  give(element, attributes, children);
  return element;
}

/** The same for SVG. */
export function s<K extends keyof SVGElementTagNameMap>(
  tag: K,
  attributes: Attributes = {},
  ...children: readonly Child[]
): SVGElementTagNameMap[K] {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  give(element, attributes, children);
  return element;
}

/** Words in which `what is to be typed` stands between backticks. */
export function spoken(text: string): (HTMLElement | string)[] {
  return text.split("`").map((part, i) => (i % 2 === 0 ? part : h("code", {}, part)));
}

/** A button that says what it does. */
export function button(
  label: string,
  act: () => void,
  { title, pressed, name }: { title?: string; pressed?: boolean; name?: string } = {},
): HTMLButtonElement {
  const made = h(
    "button",
    {
      type: "button",
      title,
      "aria-pressed": pressed === undefined ? null : String(pressed),
      "data-name": name,
    },
    label,
  );
  made.addEventListener("click", act);
  return made;
}

function give(element: Element, attributes: Attributes, children: readonly Child[]): void {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child): child is Node | string => !!child || child === ""));
}
