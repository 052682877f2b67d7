"""From images to the arrays that a network sees, and their store on disk."""
