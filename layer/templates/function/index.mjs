// The function of all the templates: it adds up an order. Each line that it writes becomes a log record, each field an
// attribute.
export async function handler(event) {
  const lines = event.lines ?? [];
  if (lines.length === 0) {
    console.log(JSON.stringify({ level: 'warn', message: 'an order without lines' }));
    return { total: 0 };
  }
  const total = lines.reduce((sum, { price, quantity }) => sum + price * quantity, 0);
  if (!Number.isFinite(total)) {
    throw new TypeError('every line of an order has a price and a quantity');
  }
  console.log(JSON.stringify({ level: 'info', message: 'order added up', order: { lines: lines.length, total } }));
  return { total };
}
